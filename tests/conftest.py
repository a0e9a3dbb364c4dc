"""What several tests share: the repository, the data folder, prepared digits, and a copy in which the smoke study has run whole."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets; tests that need it are skipped, by name, without it."""
    value = os.environ.get("INVP_DATA")
    if not value or not Path(value).is_dir():
        pytest.skip("INVP_DATA names no folder of data sets")
    return Path(value)


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> dict[str, Path]:
    """The prepared digits: split -> folder of manifest.json."""
    from invp.plumbing import config
    from invp.steps import prepare

    folder = tmp_path_factory.mktemp("digits")
    options = config.plugin_options("datasets", {"name": "digits"}, "test")
    for split in ("train", "test"):
        prepare.write_split(options, split, None, folder / split, 1)
    return {split: folder / split for split in ("train", "test")}


@pytest.fixture
def run_invp():
    """Runs `python -m invp ...` and returns the finished process."""

    def run(*arguments, cwd=ROOT, env=None, timeout=300):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(env or {})}
        return subprocess.run(
            [sys.executable, "-m", "invp", *map(str, arguments)],
            cwd=cwd,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run


PARTS = ("Snakefile", "workflow", "invp", "config", "profiles")
STUDY = "config/studies/smoke.yaml"


class Project:
    """A copy of the repository and the commands that a user gives in it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def copy(self, folder: Path) -> "Project":
        shutil.copytree(self.folder, folder, symlinks=True)
        return Project(folder)

    def run(self, *command: str, expect: int | None = 0, **env: str) -> str:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **env}
        environment.pop("PYTHONPATH", None)
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=600)
        words = done.stdout + done.stderr
        assert expect is None or done.returncode == expect, words
        return words

    def snakemake(self, *arguments: str, expect: int | None = 0, study: str = STUDY, **env: str) -> str:
        command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local"]
        return self.run(*command, *arguments, "--configfile", study, expect=expect, **env)

    def invp(self, *arguments: str, expect: int | None = 0) -> str:
        return self.run(sys.executable, "-m", "invp", *arguments, expect=expect)

    def planned(self, *arguments: str, study: str = STUDY) -> dict[str, int]:
        """The jobs that Snakemake would run now, by rule."""
        words = self.snakemake("all", "-n", *arguments, study=study)
        if "Nothing to be done" in words:
            return {}
        table = words.split("Job stats:")[1].split("total")[0]
        found = {m[1]: int(m[2]) for m in re.finditer(r"^(\w+)\s+(\d+)$", table, re.MULTILINE)}
        return {rule: count for rule, count in found.items() if rule not in ("all", "default")}

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new, 1))


def fresh(folder: Path) -> Project:
    """A copy of the sources without results."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(source, folder / part)
    return Project(folder)


@pytest.fixture
def new_project(tmp_path) -> Project:
    return fresh(tmp_path / "new")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """The smoke study, run from nothing to the report. Not to be changed: copy it."""
    project = fresh(tmp_path_factory.mktemp("workflow") / "project")
    project.words = project.snakemake("all")
    return project
