"""One SLURM cluster for all tests of this folder, and a project whose profile a user has adapted to it."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from tests.conftest import Project, fresh
from tests.slurm.cluster import Cluster, missing

HERE = Path(__file__).resolve().parent


def pytest_collection_modifyitems(items) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.slurm)


@pytest.fixture(scope="session")
def cluster():
    """A running cluster of two nodes; tests are skipped, by name, where SLURM is not installed."""
    if absent := missing():
        assert not os.environ.get("CI"), f"SLURM must be installed in CI, and lacks {', '.join(absent)}"
        # A user who runs the tests need not install a cluster's daemons for them.
        pytest.skip(f"SLURM is not installed: {', '.join(absent)}")
    if os.getuid() != 0:  # as which its daemons run, since slurmd starts jobs as their owners
        pytest.skip("a private SLURM cluster needs root")
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        pytest.skip(f"this host's name, {socket.gethostname()}, does not resolve")
    # Not below pytest's folder: the paths of sockets are short.
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    cluster = Cluster(folder)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


class SlurmProject(Project):
    """A copy of the repository on the cluster."""

    def __init__(self, folder: Path, cluster: Cluster) -> None:
        super().__init__(folder)
        self.cluster = cluster

    def start(self, *arguments: str, study: str) -> subprocess.Popen:
        """Starts the submitting process; its words are in `words.txt`."""
        command = [sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", *arguments, "--configfile", study]
        environment = {**self.cluster.environment, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE / "fastpoll")}
        environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
        with open(self.folder / "words.txt", "w") as words:
            return subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=words, stderr=subprocess.STDOUT, start_new_session=True
            )

    def finish(self, process: subprocess.Popen, *, expect: int = 0, seconds: float = 1500) -> str:
        """Waits for the submitting process, and returns what it printed."""
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(60)
            code = "none in time"
        words = (self.folder / "words.txt").read_text()
        assert code == expect, f"exit code {code}\n{words}\n{self.logs()}"
        return words

    def slurm(self, *arguments: str, study: str, expect: int = 0) -> str:
        return self.finish(self.start(*arguments, study=study), expect=expect)

    def logs(self) -> str:
        """The ends of the jobs' logs, for a failed test's message."""
        paths = sorted((self.folder / "results" / "logs").rglob("*.log"))
        return "\n".join(f"--- {path}\n{path.read_text()[-1500:]}" for path in paths)

    def jobs(self, rule: str = "") -> list[dict[str, str]]:
        """The jobs that SLURM's accounting knows of this folder, in the order of their submission."""
        keys = ["JobID", "State", "Partition", "Account", "TimelimitRaw", "ReqTRES", "NodeList"]
        # The accounting learns the comment, which names the rule, when a job ends; the controller has it from the start.
        listed = self.cluster.call("squeue", "--states=all", "--noheader", "--format=%i|%k|%Z").splitlines()
        rules = {number: comment for number, comment, folder in (line.split("|") for line in listed) if folder == str(self.folder)}
        listed = self.cluster.call("sacct", "-XPn", "--starttime=now-1days", f"--format={','.join(keys)}").splitlines()
        rows = [dict(zip(keys, line.split("|"), strict=True)) for line in listed]
        own = re.compile(f"rule_{rule}(?!_on_cpu|_part)")  # jobs of evaluate_on_cpu are not evaluate's
        return [row for row in rows if own.match(rules.get(row["JobID"], ""))]


def wait_until(condition, what: str, seconds: float = 300):
    """The first true value of `condition()`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.2)
    return value


def adapt(project: Project) -> None:
    """Makes the changes that profiles/slurm/README.md asks of a user on a new cluster."""
    profile = "profiles/slurm/config.yaml"
    project.edit(profile, "latency-wait: 60 ", "latency-wait: 20 ")
    project.edit(profile, "slurm_account=CHANGE_ME", "slurm_account=lab")
    for line in ("prepare: 8, pretrain: 8, features: 8, evaluate: 8, evaluate_on_cpu: 8, evaluate_part: 8, graph: 4",):
        project.edit(profile, line, line.replace("8", "1").replace("4", "1"))
    with open(project.folder / profile, "a") as file:
        file.write("slurm-init-seconds-before-status-checks: 1\nseconds-between-status-checks: 1\n")


@pytest.fixture
def slurm_project(cluster, tmp_path) -> SlurmProject:
    """A project without results, adapted to the cluster."""
    project = fresh(tmp_path / "project")
    adapt(project)
    return SlurmProject(project.folder, cluster)
