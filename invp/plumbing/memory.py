"""The memory that this process may take, and the refusal of jobs that would need more."""

import os
import resource
from collections.abc import Iterator
from pathlib import Path

from invp.plumbing.errors import AGAIN, UserError


def require(needed: int, what: str, rule: str) -> None:
    """UserError if the process may not take `needed` bytes more, which it is about to for `what`; another try, with more, may mend it.

    `rule` is the workflow's rule whose `mem_mb` is to be raised.
    """
    allowed, limit = left()
    if needed > allowed:
        raise UserError(
            f"this job needs about {_amount(needed)} for {what}, and may take {_amount(allowed)} ({limit}): raise mem_mb of `{rule}` in "
            f"your profile, or take a machine with more, {AGAIN}"
        )


def _amount(size: int) -> str:
    return f"{max(size, 0) / 1e6:,.0f} MB" if size < 1e9 else f"{size / 1e9:.1f} GB"


def left() -> tuple[int, str]:
    """The bytes that this process may take beyond what it has, and what sets the limit.

    Looked at are the memory that is free, cgroups, what SLURM was asked for, and the limits of the shell (`ulimit`).
    """
    size, resident, data = _taken()
    found = [(_free(), "free on this machine")]
    found += [(limit - resident, "the limit of its cgroup") for limit in _cgroups()]
    found += [(limit - resident, "what its SLURM job asked for") for limit in _slurm()]
    for kind, taken, name in ((resource.RLIMIT_AS, size, "ulimit -v"), (resource.RLIMIT_DATA, data, "ulimit -d")):
        if (limit := resource.getrlimit(kind)[0]) != resource.RLIM_INFINITY:
            found.append((limit - taken, name))
    return min(found)


def _taken() -> tuple[int, int, int]:
    """Bytes of address space, in memory, and of data, that this process has; 0 where no Linux tells."""
    try:
        pages = [int(word) for word in Path("/proc/self/statm").read_text().split()]
    except OSError:
        return 0, 0, 0
    return tuple(pages[at] * resource.getpagesize() for at in (0, 1, 5))


def _free() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _cgroups(own: Path = Path("/proc/self/cgroup"), mount: Path = Path("/sys/fs/cgroup")) -> Iterator[int]:
    """The limits of the process's cgroup and of those around it, versions 1 and 2."""
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        folder = mount / ("memory" if controllers else "") / path.lstrip("/")
        for each in (folder, *folder.parents):
            file = each / ("memory.limit_in_bytes" if controllers else "memory.max")
            if file.exists() and (text := file.read_text().strip()).isdigit():  # and not "max"
                yield int(text)


def _slurm() -> Iterator[int]:
    """What the SLURM job around this process asked for on this node; 0 is all of it."""
    node, core, cores = (int(os.environ.get(f"SLURM_{name}", 0)) for name in ("MEM_PER_NODE", "MEM_PER_CPU", "CPUS_ON_NODE"))
    if asked := node or core * cores:
        yield asked << 20
