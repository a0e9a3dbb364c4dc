"""What is kept between starts of Snakemake: never older than the files that it was made of."""

import os
import subprocess
import sys

import pytest

from invp.plumbing import memo as module
from invp.plumbing.memo import Memo
from invp.plumbing.plugins import KINDS, constants, load_plugin, plugin_names
from tests.conftest import STUDY, environment


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Stands for the package."""
    (tmp_path / "invp" / "pages").mkdir(parents=True)
    (tmp_path / "invp" / "one.py").write_text("ONE = 1\n")
    (tmp_path / "invp" / "pages" / "page.html").write_text("<p>\n")
    monkeypatch.setattr(module, "PACKAGE", tmp_path / "invp")
    return tmp_path / "invp"


def test_a_value_is_made_once_and_again_when_anything_it_depends_on_changes(package, tmp_path):
    yaml, made = tmp_path / "a.yaml", []
    yaml.write_text("k: 4\n")

    def start(options: dict) -> dict:
        memo = Memo(tmp_path / "memo", [yaml], options)
        value = memo("study", lambda: made.append(options) or {"number": len(made), "list": [1.5, None]})
        memo.save()
        return value

    assert start({"seeds": [0]}) == start({"seeds": [0]}) == {"number": 1, "list": [1.5, None]}
    assert start({"seeds": [1]})["number"] == 2
    for number, (path, text) in enumerate(
        [(yaml, "k: 5\n"), (package / "one.py", "ONE = 2\n"), (package / "pages/page.html", "<b>\n")]
    ):
        path.write_text(text)
        assert start({"seeds": [0]})["number"] == start({"seeds": [0]})["number"] == 3 + number
    (package / "one.py").rename(package / "two.py")
    assert start({"seeds": [0]})["number"] == 6
    for path in (tmp_path / "memo").glob("*.json"):
        path.write_text(path.read_text()[:-5])  # torn
    assert start({"seeds": [0]})["number"] == 7


def test_a_value_that_is_changed_stays_as_it_was_and_few_files_are_kept(package, tmp_path):
    memo = Memo(tmp_path / "memo", [], {})
    memo("study", lambda: {"experiments": ["a"]})["experiments"].append("b")
    assert memo("study", dict) == {"experiments": ["a"]}
    for number in range(module.KEPT + 3):
        other = Memo(tmp_path / "memo", [], number)
        other("study", dict)
        other.save()
    assert len(list((tmp_path / "memo").iterdir())) == module.KEPT


def test_constants_of_a_file_are_those_of_the_module():
    for kind in KINDS:
        for name in plugin_names(kind):
            plugin, found = load_plugin(kind, name), constants(kind, name)
            for constant in ("NEEDS", "MULTI_LABEL", "MASKS", "UNLABELLED", "VALIDATION", "GPU", "SPLITS"):
                assert found.get(constant, "none") == getattr(plugin, constant, "none"), (kind, name, constant)


def test_a_second_start_gives_the_same_jobs_and_imports_no_torch(new_project):
    def start() -> tuple[str, str]:
        command = [sys.executable, "-X", "importtime", "-m", "snakemake", "-n", "-p", "all", "--configfile", STUDY]
        done = subprocess.run(command, cwd=new_project.folder, env=environment(), capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr[-3000:]
        commands = sorted(line.strip() for line in (done.stdout + done.stderr).splitlines() if "-m invp" in line)
        return commands, done.stderr

    (first, before), (second, after) = start(), start()
    assert first == second and len(first) > 10
    assert " torch\n" in before and " torch\n" not in after
    assert os.listdir(new_project.folder / ".snakemake" / "invp")
