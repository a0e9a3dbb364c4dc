"""Starting a step on several processes: torchrun on one node, one torchrun agent a node through srun on several."""

import os
import signal
import subprocess
import sys
from pathlib import Path

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
    shown = subprocess.run(["scontrol", "show", "job", job], check=True, capture_output=True, text=True).stdout
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


def run_processes(processes: int, nodes: int, arguments: list[str], marker: Path) -> int:
    """Runs the step in several processes, passes signals on, and returns its exit code.

    torchrun turns every worker's code into 1; `marker`, which the first worker writes when it saved and left, turns it back
    into STOPPED.
    """
    marker.unlink(missing_ok=True)
    environment = {**os.environ, "INVP_WORKER": "1"}
    child = subprocess.Popen(torchrun_command(processes, nodes, arguments), env=environment)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
        signal.signal(number, lambda received, frame: child.send_signal(received))
    code = child.wait()
    if marker.exists():
        marker.unlink()
        return STOPPED
    return code if code >= 0 else 128 - code
