"""The record that lies beside every artifact: what made it, of what, and what came out, to the byte."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from invp.plumbing.errors import UserError
from invp.plumbing.files import json_text, read_json, sha256_of, write_json
from invp.plumbing.folders import INSTALLED
from invp.plumbing.golden import digests_for
from invp.plumbing.jobs import Job
from invp.plumbing.provenance import ROOT, module_file, modules_of, step_modules, versions


def _git(*arguments: str) -> str | None:
    if INSTALLED:
        return None  # a repository around the environment is not the package's
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def device_name() -> str:
    """The accelerator's name if torch is loaded and sees one, else the processor's."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def write_record(path: Path, job: Job, started: float, not_made: str = "") -> None:
    """Writes the record of a job: section, code, commit, versions, device, duration, command, and SHA-256 of every file.

    `committed` says whether the job's own code is that of the commit, and `golden` which golden numbers stood for it then. `started` is
    `time.time()` at the job's start. `not_made` is the reason why its files hold no result. Paths are kept relative to the working folder,
    so that a copied results folder verifies elsewhere.
    """
    status = _git("status", "--porcelain", "--untracked-files=no")
    inputs = {
        name if len(paths) == 1 else f"{name}.{number}": _file(path)
        for name, paths in job.inputs.items()
        for number, path in enumerate(paths)
    }
    content = {
        **job.record,
        **({"not_made": not_made} if not_made else {}),
        "commit": _git("rev-parse", "HEAD"),
        "clean": None if status is None else status == "",
        "committed": _committed(job),
        "golden": digests_for(job.step, job.section),
        "device": device_name(),
        "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": round(time.time() - started, 3),
        "peak_memory_mb": peak_memory_mb(),
        "command": shlex.join(["python", "-m", "invp", *sys.argv[1:]]),
        "inputs": inputs,
        "outputs": {name: _file(file) for name, file in job.outputs.items() if name != "record"},
    }
    write_json(path, content)


def _committed(job: Job) -> bool | None:
    """Whether the modules behind a job are as the commit has them; None where git does not know them."""
    files = [str(module_file(module)) for module in modules_of(step_modules(job.step, job.section))]
    if _git("ls-files", "--error-unmatch", "--", *files) is None:
        return None
    return _git("status", "--porcelain", "--", *files) == ""


def peak_memory_mb() -> float:
    """The most memory that this process and its ended children held at once, in MiB."""
    import resource

    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(most / 1024, 1)


@cache
def _digest(path: Path, size: int, modified: int) -> str:
    return sha256_of(path)


def _file(path: Path) -> dict:
    path, about = Path(path), Path(path).stat()
    digest = _digest(path, about.st_size, about.st_mtime_ns)  # an input is read once for the check and the record
    return {"path": os.path.relpath(path), "bytes": about.st_size, "sha256": digest}


def check_inputs(job: Job) -> None:
    """Raises UserError for an input that is not, to the byte, what its own record says was made."""
    for path in (path for paths in job.inputs.values() for path in paths):
        for record in (path.with_name("record.json"), path.with_name(f"{path.stem}.record.json")):
            if not path.exists() or not record.exists():
                continue
            content = read_json(record)
            entries = content.get("outputs", {}) if isinstance(content, dict) else {}
            for entry in entries.values():
                if Path(entry["path"]).name == path.name and entry["sha256"] != _file(path)["sha256"]:
                    raise UserError(
                        f"{path} is not what {record} says was made: it was altered or cut short afterwards. Delete it and run the "
                        "workflow again"
                    )


def records_under(path: Path) -> list[Path]:
    """Every record below a folder, or the one of a file, sorted; UserError if there is no such path."""
    path = Path(path)
    if path.name == "record.json" or path.name.endswith(".record.json"):
        return [path] if path.exists() else []
    if path.is_file():
        return [record for record in records_under(path.parent) if _describes(record, path)]
    if not path.is_dir():
        raise UserError(f"{path} does not exist")
    return sorted([*path.rglob("record.json"), *path.rglob("*.record.json")])


def _describes(record: Path, file: Path) -> bool:
    """Whether a file is a record, and the other one of its outputs."""
    try:
        return any(path.resolve() == file.resolve() for path in outputs_of(checked_record(record)))
    except UserError:
        return False


def outputs_of(record: dict) -> list[Path]:
    """The paths of a record's outputs, relative to the folder where the job ran."""
    return [Path(entry["path"]) for entry in record["outputs"].values()]


def checked_record(path: Path) -> dict:
    """A record; UserError if the file is none."""
    record = read_json(path)
    if not isinstance(record, dict) or not {"step", "section", "code", "inputs", "outputs"} <= set(record):
        raise UserError(f"{path} is not a record")
    return record


def adopted_record(record: dict, code: str, checked: list[str]) -> dict:
    """The record of a result that was found to be what other code, of this digest, gives too; `checked` says by what."""
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    entry = {"from": record["code"], "to": code, "at": now, "checked": checked}
    return {**record, "code": code, "adopted": [*record.get("adopted", []), entry]}


def is_as_used(path: Path, sha256: str, digest: str) -> bool:
    """Whether a file, of SHA-256 `digest`, is what a job used by `sha256`; a record may have been adopted since, and nothing else."""
    if digest == sha256 or not path.name.endswith("record.json"):
        return digest == sha256
    try:
        return sha256 in _earlier_digests(checked_record(path))
    except UserError:
        return False


def _earlier_digests(record: dict) -> list[str]:
    """SHA-256 of a record's file before each adoption, the last one first."""
    digests, adopted = [], record.get("adopted", [])
    while adopted:
        record, adopted = {**record, "code": adopted[-1]["from"], "adopted": adopted[:-1]}, adopted[:-1]
        before = {key: value for key, value in record.items() if key != "adopted" or adopted}
        digests.append(hashlib.sha256(json_text(before).encode()).hexdigest())
    return digests


def made_with_other_versions(folder: Path) -> dict[Path, dict[str, tuple[str, str]]]:
    """Records whose versions of Python or a library are not those installed: name -> (then, now)."""
    now, found = versions(), {}
    for path in records_under(folder):
        then = checked_record(path).get("versions", {})
        differences = {n: (then.get(n, "none"), now.get(n, "none")) for n in sorted({*then, *now}) if then.get(n) != now.get(n)}
        if differences:
            found[path] = differences
    return found
