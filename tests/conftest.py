"""What several tests share: the repository, the data folder, and small experiments on the embedded digits."""

import os
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
    from invp import config, prepare

    folder = tmp_path_factory.mktemp("digits")
    options = config.plugin_options("datasets", {"name": "digits"}, "test")
    for split in ("train", "test"):
        prepare.run("digits", options, split, None, folder / split, 1)
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
