"""kill -9 at seeded random moments: of the workflow, of a job, of a rank. One more plain command ends as if nothing had happened.

Three trials run by default; the thirty of docs/reliability.md with `python -m pytest -m "slow or not slow" tests/reliability/test_kills.py`.
"""

import csv
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STUDY = "config/studies/killed.yaml"
TRIALS = [pytest.param(seed, marks=[] if seed < 3 else [pytest.mark.slow]) for seed in range(30)]


def with_study(project):
    """The embedded digits, a small network, two stages; enough steps that a kill can hit each kind of job."""
    experiment = "extends: smoke-invp\nevaluations: {linear: false}\nfigures: {training-curves: false}\nstages: [2, 4]\ntraining: {epochs: 4}\n"
    (project.folder / "config/experiments/killed.yaml").write_text(experiment)
    study = "study: killed\ntitle: Killed\ndescription: For tests.\nexperiments: [killed]\ncolumns: [knn.top1]\n"
    (project.folder / STUDY).write_text(study)
    return project


def numbers(project) -> dict:
    with open(project.folder / "results/summary.csv") as file:
        rows = list(csv.DictReader(file))
    timed = ("seconds", "images_per_second", "memory_mb")
    return {(r["stage"], r["source"], r["metric"]): r["value"] for r in rows if r["metric"] not in timed}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The numbers of an undisturbed run, by processes of the pretraining, and how long it took."""
    from conftest import fresh

    found = {}

    def of(processes: int):
        if processes not in found:
            project = with_study(fresh(tmp_path_factory.mktemp("undisturbed") / "project"))
            started = time.monotonic()
            project.snakemake("all", *resources(processes), study=STUDY)
            found[processes] = numbers(project), time.monotonic() - started
        return found[processes]

    return of


def resources(processes: int) -> list[str]:
    return ["--set-resources", f"pretrain:processes={processes}"] if processes > 1 else []


def children(pid: int) -> list[int]:
    """All processes that descend from one, those nearest to it first."""
    try:
        own = [int(c) for task in Path(f"/proc/{pid}/task").iterdir() for c in (task / "children").read_text().split()]
    except OSError:
        return []
    return own + [d for child in own for d in children(child)]


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def victims(root: int, kind: str) -> list[int]:
    """The processes of this kind that live now."""
    if kind == "workflow":
        return [root]
    below = [(p, command_of(p)) for p in children(root)]
    if kind == "rank":
        workers = [p for p, words in below if " -m invp pretrain " in words and "torch.distributed.run" not in words]
        return workers[1:]  # the first is the launcher
    return [p for p, words in below if " -m invp " in words and "bash" not in words.split(" ")[0]]


def start(project, processes: int) -> subprocess.Popen:
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--profile",
        "profiles/local",
        "all",
        *resources(processes),
        "--configfile",
        STUDY,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.Popen(
        command, cwd=project.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )


@pytest.mark.parametrize("seed", TRIALS)
def test_killed_at_a_random_moment_it_ends_as_undisturbed(seed, new_project, undisturbed):
    draw = random.Random(seed)
    kind = ("workflow", "job", "rank")[seed % 3]
    processes = 2 if kind == "rank" else 1
    expected, duration = undisturbed(processes)
    project = with_study(new_project)
    process = start(project, processes)
    moment = time.monotonic() + draw.uniform(0.05, 0.9) * duration
    while time.monotonic() < moment and process.poll() is None:
        time.sleep(0.05)
    deadline = time.monotonic() + 2 * duration
    while process.poll() is None and time.monotonic() < deadline:
        if found := victims(process.pid, kind):
            os.kill(draw.choice(found), signal.SIGKILL)
            break
        time.sleep(0.01)
    process.wait(600)
    words = project.snakemake("all", *resources(processes), study=STUDY, expect=None)
    if "--unlock" in words:  # what the message says
        assert kind == "workflow"
        project.snakemake("--unlock", study=STUDY)
        project.snakemake("all", *resources(processes), study=STUDY)
    assert project.planned(study=STUDY) == {}
    assert numbers(project) == expected
    assert "0 faults" in project.invp("verify")
