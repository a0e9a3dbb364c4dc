"""Starting a step on several processes: torchrun on one node, one torchrun agent a node through srun on several."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from invp.plumbing.errors import UserError

STOPPED = 75  # EX_TEMPFAIL: saved and left before the end; start again to go on


def torchrun_command(processes: int, nodes: int, arguments: list[str]) -> list[str]:
    """The command that runs `python -m invp ARGUMENTS` in `processes` processes on each of `nodes` nodes."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--nnodes={nodes}"]
    command += ["--max-restarts=0", "--no-python"]
    if nodes == 1:
        command += ["--standalone"]
    else:
        host = _first_host()
        port = 20000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20000
        command += ["--rdzv-backend=c10d", f"--rdzv-endpoint={host}:{port}", f"--rdzv-id={os.environ['SLURM_JOB_ID']}"]
        command = ["srun", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--kill-on-bad-exit=1", *command]
    return [*command, sys.executable, "-m", "invp", *arguments]


def _first_host() -> str:
    """The address of the first node of this SLURM job, which scontrol knows even where SLURM_* variables were dropped."""
    job = os.environ["SLURM_JOB_ID"]
    done = subprocess.run(["scontrol", "show", "job", job], capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"'scontrol show job {job}' names no nodes: {done.stderr.strip()}")
    shown = done.stdout
    nodelist = next(
        word[9:]
        for line in shown.splitlines()
        for word in line.split()
        if word.startswith("NodeList=") and word != "NodeList=(null)"
    )
    names = subprocess.run(["scontrol", "show", "hostnames", nodelist], check=True, capture_output=True, text=True).stdout
    node = names.split()[0]
    shown = subprocess.run(["scontrol", "show", "node", node], check=True, capture_output=True, text=True).stdout
    return next(word[9:] for word in shown.split() if word.startswith("NodeAddr="))


def leave_after() -> float:
    """Minutes from now on after which this SLURM job should save and leave, a little before its end; 0 if it has no limit."""
    if "SLURM_JOB_ID" not in os.environ or os.environ.get("RANK", "0") != "0":
        return 0
    command = ["squeue", "--noheader", "--format=%L", "--jobs", os.environ["SLURM_JOB_ID"]]
    try:
        left = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return 0
    days, _, clock = left.rpartition("-")
    if not re.fullmatch(r"\d*", days) or not re.fullmatch(r"\d+(:\d+){1,2}", clock):
        return 0  # UNLIMITED
    seconds = 0
    for part in clock.split(":"):
        seconds = 60 * seconds + int(part)
    minutes = 24 * 60 * int(days or 0) + seconds / 60
    return max(1 / 60, minutes - min(3, 0.1 * minutes))


def run_processes(processes: int, nodes: int, arguments: list[str], marker: Path) -> int:
    """Runs the step in several processes, passes signals on, and returns its exit code.

    torchrun turns every worker's code into 1; `marker`, which the first worker writes when it saved and left, turns it back
    into STOPPED.
    """
    marker.unlink(missing_ok=True)
    threads = int(os.environ.get("OMP_NUM_THREADS", processes)) // processes
    environment = {**os.environ, "INVP_WORKER": "1", "OMP_NUM_THREADS": str(max(1, threads))}
    child = subprocess.Popen(torchrun_command(processes, nodes, arguments), env=environment)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, lambda received, frame: child.send_signal(received))
    code = child.wait()
    if marker.exists():
        marker.unlink()
        return STOPPED
    return code if code >= 0 else 128 - code
