"""What several tests share: the repository, the data folder, prepared digits, and a copy in which the smoke study has run whole."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: the tests run in two processes

from tests import warm_jobs, warm_python  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


# What takes longest comes first, so that processes under pytest-xdist (file by file) end at about the same time.
LONGEST = ("slurm/", "reliability/test_kills.py", "workflow/", "test_pretrain.py", "test_extending.py", "reliability/", "graph/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        path = item.path.relative_to(ROOT / "tests").as_posix()
        return next((number for number, start in enumerate(LONGEST) if path.startswith(start)), len(LONGEST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets; tests that need it are skipped, by name, without it."""
    value = os.environ.get("INVP_DATA")
    if not value or not Path(value).is_dir():
        # Real sets are no part of the repository, since their licences do not let us give them on.
        pytest.skip("INVP_DATA names no folder of data sets")
    return Path(value)


@pytest.fixture(scope="module")  # one left open until the end would take half a core for the cursor in its field
def browser():
    """A headless Chromium, driven by selenium."""
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        assert not os.environ.get("CI"), "chromium and chromium-driver must be installed in CI"
        # A user who runs the tests need not install a browser for them.
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1366,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def axe() -> str:
    """The script of axe-core, which looks for what keeps people from using a page."""
    path = ROOT / "node_modules/axe-core/axe.min.js"
    if not path.exists():
        assert not os.environ.get("CI"), "`npm ci` must have been run in CI"
        # npm is for those who change pages; a user who runs the tests need not have it.
        pytest.skip("axe-core is not installed: npm ci")
    return path.read_text(encoding="utf-8")


def made_once(tmp_path_factory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that `make(folder)` fills once for all processes of a run under pytest-xdist; whoever comes second waits."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # of the whole run: each process has its own folder below
    folder, done = base / name, base / f"{name}.done"
    with FileLock(base / f"{name}.lock"):
        if not done.exists():
            make(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> dict[str, Path]:
    """The prepared digits: split -> folder of manifest.json. Not to be changed: copy them."""
    from invp.plumbing import config
    from invp.steps import prepare

    def make(folder: Path) -> None:
        options = config.plugin_options("datasets", {"name": "digits"}, "test")
        for split in ("train", "test"):
            prepare.write_split(options, split, None, folder / split, 1)

    folder = made_once(tmp_path_factory, "digits", make)
    return {split: folder / split for split in ("train", "test")}


def environment(**extra: str) -> dict[str, str]:
    """The environment of commands: this Python first, one thread, and none of the tests' paths."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    found = {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **extra}
    if "PYTHONPATH" not in extra:
        found.pop("PYTHONPATH", None)
    return found


@pytest.fixture
def run_invp():
    """Runs `python -m invp ...` of the repository and returns the finished process."""

    def run(*arguments, env=None, timeout=300):
        return warm_python.run(["invp", *map(str, arguments)], ROOT, environment(**(env or {})), timeout)

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
        """Runs a command just as a user types it, and returns what it printed."""
        done = subprocess.run(command, cwd=self.folder, env=environment(**env), capture_output=True, text=True, timeout=600)
        return self._checked(done, expect)

    def python(self, *arguments: str, expect: int | None = 0, **env: str) -> str:
        """Runs `python -m` with these arguments in a fork that has imported the libraries: see tests/warm_python.py."""
        return self._checked(warm_python.run(list(arguments), self.folder, environment(**env)), expect)

    @staticmethod
    def _checked(done: subprocess.CompletedProcess, expect: int | None) -> str:
        printed = done.stdout + done.stderr
        assert expect is None or done.returncode == expect, f"exit code {done.returncode}\n{printed}"
        return printed

    def snakemake(self, *arguments: str, expect: int | None = 0, study: str = STUDY, **env: str) -> str:
        """The workflow; its jobs are forks too: see tests/warm_jobs.py."""
        command = ["snakemake", "--profile", "profiles/local", *arguments, "--configfile", study]
        return self.python(*command, expect=expect, **{**warm_jobs.environment(), **env})

    def invp(self, *arguments: str, expect: int | None = 0) -> str:
        return self.python("invp", *arguments, expect=expect)

    def planned(self, *arguments: str, study: str = STUDY) -> dict[str, int]:
        """The jobs that Snakemake would run now, by rule."""
        return jobs_in(self.snakemake("all", "-n", *arguments, study=study))

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new, 1))


def jobs_in(printed: str) -> dict[str, int]:
    """The jobs of a dry run, by step, from what it printed: those of a rule for the CPU count with the others of the step."""
    if "Nothing to be done" in printed:
        return {}
    table = printed.split("Job stats:")[1].split("total")[0]
    counts: Counter[str] = Counter()
    for match in re.finditer(r"^(\w+)\s+(\d+)$", table, re.MULTILINE):
        counts[match[1].removesuffix("_on_cpu")] += int(match[2])
    return {rule: count for rule, count in counts.items() if rule not in ("all", "default")}


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

    def make(folder: Path) -> None:
        (folder / "printed.txt").write_text(fresh(folder).snakemake("all"))

    return Project(made_once(tmp_path_factory, "finished", make))
