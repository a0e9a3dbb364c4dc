"""The code of docs/extending.md, put where it says and run."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / "docs" / "extending.md").read_text(), re.M | re.S)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the repository with the page's files in it."""
    folder = tmp_path_factory.mktemp("extended")
    for name in ("invp", "config", "workflow", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Snakefile", "pyproject.toml"):
        shutil.copy(ROOT / name, folder)
    for language, text in BLOCKS:
        if language != "bash":
            path = folder / re.match(r"# (\S+)\n", text).group(1)
            assert not path.exists() and path.parent.is_dir(), path
            path.write_text(text)
    return folder


def run(command: str, folder: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    done = subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_page_has_an_objective_an_evaluation_and_their_commands():
    paths = [re.match(r"# (\S+)\n", text).group(1) for language, text in BLOCKS if language != "bash"]
    assert {"invp/objectives/nnclr.py", "invp/evals/nearest_centroid.py"} <= set(paths)
    assert sum(language == "bash" for language, _ in BLOCKS) == 2


def test_its_commands_run_and_the_numbers_are_there(project):
    for language, text in BLOCKS:
        if language == "bash":
            words = run(text, project)
            assert "no tests ran" not in words and "deselected" not in words.split("passed")[0]
    results = project / "results" / "smoke-nnclr" / "seed-0"
    metrics = json.loads((results / "evals" / "nearest-centroid" / "stage-2" / "metrics.json").read_text())
    assert metrics["metrics"]["top1"] > 50  # ten classes
    assert metrics["protocol"]["objective"] == "nnclr"
    rows = [json.loads(line) for line in (results / "pretrain" / "stage-2" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss_instance"] < rows[-1]["uniform_loss"]
    assert (results / "graph" / "stage-2" / "knn.arrow").exists()


def test_its_python_keeps_the_rules_of_the_repository(project):
    for language, text in BLOCKS:
        if language == "python":
            path = re.match(r"# (\S+)\n", text).group(1)
            run(f"ruff check {path} && ruff format --check {path}", project)
