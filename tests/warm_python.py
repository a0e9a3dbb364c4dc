"""`python -m MODULE ...` in a process that is forked from one in which the libraries are imported already: torch alone takes two seconds.

The process is a new one all the same: it starts in the given folder, imports the project's modules from there, has its own
environment and output, and takes signals. Nothing of the project is imported before the fork. tests/conftest.py starts most commands so.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

LIBRARIES = (
    "torch",
    "torchvision",
    "kornia.filters",
    "pyarrow",
    "omegaconf",
    "scipy.stats",
    "sklearn.svm",
    "matplotlib.pyplot",
    "jinja2",
)
SNAKEMAKE = ("snakemake.cli", "snakemake_executor_plugin_slurm")
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload([*LIBRARIES, *SNAKEMAKE])


def _become(arguments: list[str], folder: str, environment: dict[str, str], outputs: tuple[str, str]) -> None:
    """Runs in the fork: makes of it what `python -m MODULE ...` would be, and runs the module."""
    for number, path in enumerate(outputs, 1):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    become(arguments, folder, environment)


def become(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Makes of this process what `python -m MODULE ...` would be, started in the folder with the environment, and runs the module."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    installed = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    paths = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [folder, *paths, *installed]
    sys.argv = list(arguments)
    if arguments[0] == "snakemake":
        sys.executable = environment.get(
            "INVP_JOBS_PYTHON", sys.executable
        )  # the workflow puts its folder first into the PATH of jobs
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)


class Process:
    """A running command, used as one of `subprocess.Popen`: pid, poll, wait, and communicate for what it printed."""

    def __init__(self, arguments: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self._printed = tempfile.TemporaryDirectory()
        self._outputs = tuple(f"{self._printed.name}/{name}" for name in ("stdout", "stderr"))
        for path in self._outputs:
            Path(path).touch()
        options = (self.arguments, str(Path(folder).resolve()), dict(environment), self._outputs)
        self._process = CONTEXT.Process(target=_become, args=options)
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def wait(self, timeout: float) -> int:
        """The exit code, negative after a signal; a command that takes longer is killed."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            self._process.join()
            raise subprocess.TimeoutExpired(self.arguments, timeout, *self._read())
        return self._process.exitcode

    def communicate(self, timeout: float) -> tuple[str, str]:
        """Waits, and returns what the command printed to its standard output and to its standard error."""
        self.wait(timeout)
        return self._read()

    def _read(self) -> tuple[str, str]:
        stdout, stderr = (Path(path).read_text(errors="replace") for path in self._outputs)
        return stdout, stderr


def run(arguments: list[str], folder: Path, environment: dict[str, str], timeout: float = 600) -> subprocess.CompletedProcess:
    """Runs `python -m` with these arguments, the module's name first, and returns it finished."""
    process = Process(arguments, folder, environment)
    stdout, stderr = process.communicate(timeout)
    return subprocess.CompletedProcess(process.arguments, process.returncode, stdout, stderr)
