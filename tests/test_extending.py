"""The code of docs/extending.md, put where its first line says and run."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from invp.data.tables import labels_of, matrix
from invp.plumbing.files import read_table
from tests import warm_jobs
from tests.conftest import STUDY, Project

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"^```(?!text)(\w+)\n(.*?)^```$", (ROOT / "docs" / "extending.md").read_text(), re.M | re.S)
FILES = {match[1]: text for _, text in BLOCKS if (match := re.match(r"# (\S+)\n", text))}
LINES = [match.groups() for _, text in BLOCKS if (match := re.match(r"# (\S+), a new line after: (.*)\n(.*\n)\Z", text))]
COMMANDS = [text for language, text in BLOCKS if language == "bash"]


def write_page(folder: Path) -> None:
    """Writes the page's new files, and its new lines into files that there are."""
    for name, text in FILES.items():
        path = folder / name
        assert not path.exists() and path.parent.is_dir(), path
        path.write_text(text)
    for name, before, line in LINES:
        text = (folder / name).read_text()
        assert text.count(f"\n{before}\n") == 1, f"{name} does not have one line {before!r}"
        (folder / name).write_text(text.replace(f"\n{before}\n", f"\n{before}\n{line}"))


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the repository without results, with the page's files in it."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("invp", "config", "workflow", "profiles", "docs", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    write_page(folder)
    return folder


@pytest.fixture(scope="module")
def with_step(finished, tmp_path_factory) -> Project:
    """The smoke study, run before the page's files came and then again, and the jobs that this planned."""
    project = finished.copy(tmp_path_factory.mktemp("step") / "project")
    write_page(project.folder)
    project.new_jobs = project.planned()
    run(COMMANDS[2], project.folder)
    return project


def run(command: str, folder: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **warm_jobs.shell_environment()}
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_page_has_an_objective_an_evaluation_a_step_and_their_commands():
    assert {"invp/objectives/barlow_twins.py", "invp/evals/nearest_centroid.py", "invp/steps/doubtful_labels.py"} <= set(FILES)
    assert [name for name, _, _ in LINES] == ["workflow/Snakefile", "profiles/slurm/config.yaml"]
    assert len(COMMANDS) == 3 and len(FILES) + len(LINES) + len(COMMANDS) == len(BLOCKS)


def test_the_commands_of_objective_and_evaluation_run_and_the_numbers_are_there(project):
    for command in COMMANDS[:2]:
        output = run(command, project)
        assert "no tests ran" not in output and "deselected" not in output.split("passed")[0]
    results = project / "results" / "smoke-barlow-twins" / "seed-0"
    metrics = json.loads((results / "evals" / "nearest-centroid" / "stage-2" / "metrics.json").read_text())
    assert metrics["metrics"]["top1"] > 50  # ten classes
    assert metrics["protocol"]["objective"] == "barlow_twins"
    rows = [json.loads(line) for line in (results / "pretrain" / "stage-2" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < rows[0]["loss"] and rows[-1]["correlation"] > rows[0]["correlation"] > 0
    assert (results / "graph" / "stage-2" / "knn.arrow").exists()
    assert (results / "graph" / "stage-2" / "doubtful_labels.csv").exists()  # WANTED makes it part of every study


def test_the_step_alone_runs_in_a_finished_study(with_step):
    assert with_step.new_jobs == {"doubtful_labels": 4}  # two experiments with two stages each
    split = with_step.folder / "results/datasets/digits/train"
    labels, sources = labels_of(split), read_table(split / "shards/shard-00000.arrow")["source"].to_pylist()
    for folder in (with_step.folder / "results").glob("*/seed-0/graph/stage-*"):
        expected = {}
        for image, neighbours in enumerate(matrix(read_table(folder / "knn.arrow"), "neighbours")):
            ((answer, count),) = Counter(labels[neighbours].tolist()).most_common(1)  # of equal counts, that of the nearer one
            if answer != labels[image]:
                expected[image] = (sources[image], str(labels[image]), str(answer), count / len(neighbours))
        rows = list(csv.DictReader((folder / "doubtful_labels.csv").open()))
        assert {int(r["image"]): (r["source"], r["label"], r["neighbours"], float(r["share"])) for r in rows} == expected
        shares = [float(row["share"]) for row in rows]
        assert shares and shares == sorted(shares, reverse=True)


def test_everything_finds_the_step_by_its_file(with_step):
    table = "results/smoke-invp/seed-0/graph/stage-2/doubtful_labels.csv"
    assert "doubtful_labels" in with_step.invp("--help")
    assert "made by      doubtful_labels" in with_step.invp("why", table)
    assert "0 faults" in with_step.invp("verify", "results")
    plan = with_step.invp("plan", STUDY)
    assert any(line.split()[:4] == ["doubtful_labels", "0", "of", "4"] for line in plan.splitlines()), plan
    slurm = (sys.executable, "-m", "snakemake", "--profile", "profiles/slurm", "--configfile", STUDY)
    assert "runtime=10" in with_step.run(*slurm, "-n", "--force", table).split("rule doubtful_labels:")[1]


def test_an_edit_of_the_steps_code_runs_it_alone_and_a_comment_nothing(with_step, tmp_path):
    project, path = with_step.copy(tmp_path / "project"), "invp/steps/doubtful_labels.py"
    project.edit(path, "import csv", "import csv  # a comment")
    assert project.planned() == {}
    project.edit(path, "answer != labels", "(answer != labels) & (share > 0.5)")
    assert project.planned() == {"doubtful_labels": 4}


def test_its_code_keeps_the_rules_of_the_repository(project):
    python = " ".join(name for name in FILES if name.endswith(".py"))
    run(f"ruff check {python} && ruff format --check {python} && snakefmt --check workflow", project)
    # The law of imports, sizes, the contract of each folder's files, and a rule for every step.
    chosen = "barlow_twins or nearest_centroid or doubtful_labels or contract or rule"
    assert "failed" not in run(f"python -m pytest tests/test_architecture.py -k '{chosen}'", project)
