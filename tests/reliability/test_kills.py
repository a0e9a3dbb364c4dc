"""kill -9 at seeded random moments: of the workflow, of a job, of a rank. One more plain command ends as if nothing had happened.

Two trials run by default, of the workflow and of a job; the thirty of docs/reliability.md with `python -m pytest -m "slow or not slow" tests/reliability/test_kills.py`.
"""

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import environment, fresh, made_once

TRIALS = [pytest.param(seed, marks=[] if seed < 2 else [pytest.mark.slow]) for seed in range(30)]
KINDS = ("workflow", "job", "rank")
# The smoke study's InvP without its first stage, whose undisturbed numbers the finished study has; for ranks, a training of some seconds.
STUDIES = {"invp": "experiments: [one-stage]", "ranks": "experiments: [killed]"}
EXPERIMENTS = {"one-stage": "stages: [2]", "killed": "stages: [30]\ntraining: {epochs: 30}"}
JOBS = 12  # of the study invp


def study_of(kind: str) -> str:
    return f"config/studies/{'ranks' if kind == 'rank' else 'invp'}.yaml"


def with_studies(project):
    for name, values in EXPERIMENTS.items():
        (project.folder / f"config/experiments/{name}.yaml").write_text(f"extends: smoke-invp\n{values}\n")
    for name, experiments in STUDIES.items():
        (project.folder / f"config/studies/{name}.yaml").write_text(f"study: {name}\n{experiments}\n")
    with open(project.folder / "profiles/local/config.yaml", "a") as file:
        file.write("\nset-threads: {pretrain: 1}\n")  # as in the finished study, whose runs share the cores
    return project


def target(kind: str) -> list[str]:
    """What to make: everything, or a training on two ranks."""
    return ["pretrain_all", "--set-resources", "pretrain:processes=2"] if kind == "rank" else ["all"]


def numbers(project, kind: str) -> dict | list:
    """What was computed, without times and memory."""
    timed = ("seconds", "images_per_second", "memory_mb")
    if kind == "rank":
        lines = (project.folder / "results/killed/seed-0/pretrain/stage-30/metrics.jsonl").read_text().splitlines()
        return [{key: value for key, value in json.loads(line).items() if key not in timed} for line in lines]
    (summary,) = (project.folder / "results/studies").glob("*/summary.csv")
    with open(summary) as file:
        rows = [row for row in csv.DictReader(file) if row["experiment"] in ("smoke-invp", "one-stage") and row["stage"] == "2"]
    rows = [row for row in rows if row["metric"] not in (*timed, "overlap_with_previous")]
    return {(row["stage"], row["source"], row["metric"]): row["value"] for row in rows}


@pytest.fixture
def expected(seed, finished, tmp_path_factory):
    """The numbers of an undisturbed run."""
    kind = KINDS[seed % 3]
    if kind != "rank":
        return numbers(finished, kind)

    def make(folder: Path) -> None:
        project = with_studies(fresh(folder))
        project.snakemake(*target(kind), study=study_of(kind))

    return numbers(type(finished)(made_once(tmp_path_factory, "two-ranks", make)), kind)


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


def start(project, kind: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", *target(kind), "--configfile", study_of(kind)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=project.folder, env=environment(), start_new_session=True, **quiet)


def begun(project, kind: str) -> int:
    """How many jobs have begun; of ranks, whether they train."""
    results = project.folder / "results"
    if kind == "rank":
        return len(list(results.glob("killed/seed-0/pretrain/scratch-stage-30/lock")))
    return len([path for path in results.glob("logs/**/*.log") if path.is_file()])


@pytest.mark.parametrize("seed", TRIALS)
def test_killed_at_a_random_moment_it_ends_as_undisturbed(seed, new_project, expected):
    """The moment: some seconds after a random job has begun."""
    draw, kind = random.Random(seed), KINDS[seed % 3]
    project = with_studies(new_project)
    process = start(project, kind)
    jobs = 1 if kind == "rank" else draw.randrange(JOBS - 2)  # so that some are left to kill
    while begun(project, kind) < jobs and process.poll() is None:
        time.sleep(0.02)
    time.sleep(draw.uniform(0, 2))
    killed = False
    while not killed and process.poll() is None:
        if living := victims(process.pid, kind):
            os.kill(draw.choice(living), signal.SIGKILL)
            killed = True
        time.sleep(0.01)
    assert killed, "it ended before the moment"
    process.wait(600)
    printed = project.snakemake(*target(kind), study=study_of(kind), expect=None)
    if "--unlock" in printed:  # what the message says
        assert kind == "workflow"
        project.snakemake("--unlock", study=study_of(kind))
        project.snakemake(*target(kind), study=study_of(kind))
    assert "Nothing to be done" in project.snakemake(*target(kind), "-n", study=study_of(kind))
    assert numbers(project, kind) == expected
    assert "0 faults" in project.invp("verify")
