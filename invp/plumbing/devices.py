"""Which GPUs a job on a shared machine uses: one lock a device, held as long as the process lives.

Snakemake counts GPUs (`--resources gpu=2`), but says to no job which of them is its own. Inside a SLURM job, SLURM has said which belong
to the whole job: several commands may still run in it side by side, and devices are numbered anew in each job.
"""

import errno
import fcntl
import os
import stat
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
    job = os.environ.get("SLURM_JOB_ID")
    with claimed(devices, number, FOLDER / f"slurm-{job}" if job else FOLDER) as own:
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
    """The lock file, which every user of the machine may lock.

    What another user may have laid there is not followed: the folder is no link, the file neither, and the mode is changed only of
    what was made just now.
    """
    for each in (folder.parent, folder) if folder.parent == FOLDER else (folder,):
        try:
            each.mkdir(parents=True)
            each.chmod(0o1777)  # as the folder for temporary files itself
        except FileExistsError:
            if not stat.S_ISDIR(each.lstat().st_mode):
                raise UserError(f"{each} is no folder: remove it; the locks of this machine's GPUs are kept there") from None
    path = folder / name.replace("/", "-")
    try:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
            os.fchmod(descriptor, 0o666)
        except FileExistsError:
            descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except PermissionError:
        raise UserError(f"{path} belongs to another user who keeps it to himself: ask for `chmod 666 {path}`") from None
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise
        raise UserError(f"{path} is no file ({error.strerror}): remove it") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise UserError(f"{path} is no file: remove it")
    return os.fdopen(descriptor, "r+")


def _taken(file: IO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
