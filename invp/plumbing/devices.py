"""Which GPUs a job on a shared machine uses: one lock a device, held as long as the process lives.

Snakemake counts GPUs (`--resources gpu=2`), but says to no job which of them is its own. Inside a SLURM job, SLURM has said it.
"""

import fcntl
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from invp.plumbing.errors import UserError

FOLDER = Path(tempfile.gettempdir()) / "invp-devices"  # one for all projects and users of this machine


@contextmanager
def reserved(number: int) -> Iterator[None]:
    """Shows this process and its children `number` GPUs that nobody else has; does nothing where there is no GPU."""
    devices = devices_of(os.environ)
    if not devices:
        yield
        return
    with claimed(devices, number) as own:
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(own)
        yield


def devices_of(environment: Mapping[str, str]) -> list[str]:
    """The devices that this process may use, as CUDA_VISIBLE_DEVICES names them; none without a GPU."""
    if "CUDA_VISIBLE_DEVICES" in environment:
        return [name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",") if name.strip() not in ("", "-1")]
    try:
        listed = subprocess.run(["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"], capture_output=True, text=True)
    except OSError:
        return []
    return listed.stdout.split() if listed.returncode == 0 else []


@contextmanager
def claimed(devices: list[str], number: int, folder: Path = FOLDER) -> Iterator[list[str]]:
    """`number` of the devices, which no other process has until the block or this process ends; waits for them in turn.

    Whoever waits holds the turn, so that a job of many devices is not overtaken for ever by jobs of one, and no two jobs wait
    for each other's. UserError if there are fewer than `number` devices at all.
    """
    if number > len(devices):
        raise UserError(
            f"{number} processes want a GPU each, but there are {len(devices)} ({','.join(devices)}): ask for fewer processes"
        )
    with ExitStack() as stack:
        held: dict[str, IO] = {}
        with _opened(folder, "turn") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            told = False
            while True:
                for device in devices:
                    if device not in held and len(held) < number:
                        file = stack.enter_context(_opened(folder, f"device-{device}"))
                        if _taken(file):
                            held[device] = file
                if len(held) == number:
                    break
                if not told:
                    print(f"waiting for {number - len(held)} of the GPUs {','.join(devices)}", file=sys.stderr, flush=True)
                    told = True
                time.sleep(0.2)
        yield [device for device in devices if device in held]


def _opened(folder: Path, name: str) -> IO:
    """The lock file, which every user of the machine may lock."""
    if not folder.exists():
        folder.mkdir(exist_ok=True, parents=True)
        folder.chmod(0o1777)  # as the folder for temporary files itself
    path = folder / name.replace("/", "-")
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        raise UserError(f"{path} belongs to another user who keeps it to himself: ask for `chmod 666 {path}`") from None
    if os.fstat(descriptor).st_uid == os.getuid():
        os.fchmod(descriptor, 0o666)
    return os.fdopen(descriptor, "r+")


def _taken(file: IO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
