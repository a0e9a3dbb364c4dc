"""Outside of the clone: the installed package in a folder of one's own, `--directory`, and the workflow as a module."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

PARTS = ("invp", "workflow", "config", "profiles", "pyproject.toml", "setup.py", "README.md", "LICENSE")
MODULE = """\
configfile: "config/config.yaml"


module other:
    snakefile: "{snakefile}"
    config: config


use rule * from other as other_*


rule default:
    default_target: True
    input:
        rules.other_all.input,
"""


class Environment:
    """A virtual environment with the package in it; its commands see neither the clone nor what this process has set."""

    def __init__(self, folder: Path):
        self.bin = folder / "bin"
        self.packages = next(folder.glob("lib/python*/site-packages"))
        self.package = self.packages / "invp"

    def run(self, *command: str, cwd: Path, expect: int = 0) -> str:
        kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
        environment = {**kept, "OMP_NUM_THREADS": "1", "INVP_DATA": str(cwd / "no-data")}
        words = [str(self.bin / "python"), "-m", *command]
        done = subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == expect, done.stdout + done.stderr
        return done.stdout + done.stderr

    def snakemake(self, *arguments: str, cwd: Path, expect: int = 0) -> str:
        return self.run("snakemake", *arguments, cwd=cwd, expect=expect)


@pytest.fixture(scope="module")
def installed(tmp_path_factory, root) -> Environment:
    """`pip install .` in a new environment, which takes the dependencies from the one that runs the tests."""
    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("environment")
    for part in PARTS:
        if (root / part).is_dir():
            shutil.copytree(root / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(root / part, source / part)
    venv.create(folder, symlinks=True)
    environment = Environment(folder)
    (environment.packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    environment.run("pip", "install", "--quiet", "--no-deps", "--no-index", "--no-build-isolation", str(source), cwd=folder)
    shutil.rmtree(source)
    return environment


@pytest.fixture
def own(installed, tmp_path) -> Path:
    installed.run("invp", "init", "my study", cwd=tmp_path)
    return tmp_path / "my study"


def test_a_folder_of_ones_own_from_init_to_the_report(installed, own):
    assert not (own / "invp").exists() and not (own / "config/published.yaml").exists()
    (own / "config/experiments/my-invp.yaml").write_text("extends: base\nobjective: {steps: 2}\nstages: [2]\n")
    (own / "config/experiments/base.yaml").write_text("extends: smoke-invp\ntitle: Mine\n")
    (own / "config/config.yaml").write_text("study: own\nexperiments: [my-invp]\nseeds: [0]\n")
    words = installed.run("invp", "run", cwd=own)
    assert "estimate: 12 jobs, " in words and "to follow: tail -F results/logs/pretrain/my-invp-seed-0-stage-2.log" in words
    page = "results/studies/own/report.html"
    assert f"report: {page}" in words and "my-invp" in (own / page).read_text()
    record = json.loads((own / "results/my-invp/seed-0/pretrain/stage-2/record.json").read_text())
    assert record["section"]["objective"]["steps"] == 2 and record["commit"] is None
    assert "0 faults" in installed.run("invp", "verify", cwd=own)
    assert "Nothing to be done" in installed.snakemake("--profile", "profiles/local", "all", "-n", cwd=own)
    assert "0 jobs" in installed.run("invp", "plan", "config/config.yaml", cwd=own)


def test_init_writes_over_nothing(installed, own):
    assert "is not an empty folder" in installed.run("invp", "init", str(own), cwd=own, expect=2)


def test_the_installed_workflow_plans_all_of_its_studies_from_any_folder(installed, own, tmp_path):
    snakefile = installed.package / "workflow/Snakefile"
    (tmp_path / "elsewhere").mkdir()
    words = installed.snakemake("-s", str(snakefile), "--cores", "1", "-n", "--directory", str(tmp_path / "elsewhere"), cwd=own)
    assert "pretrain" in words
    for study in ("ablation", "smoke"):
        path = installed.package / f"config/studies/{study}.yaml"
        assert "pretrain" in installed.snakemake("--profile", "profiles/local", "-n", "all", "--configfile", str(path), cwd=own)


def test_as_a_module_of_another_workflow(installed, own):
    snakefile = installed.package / "workflow/Snakefile"
    (own / "Snakefile").write_text(MODULE.format(snakefile=snakefile))
    assert "other_pretrain" in installed.snakemake("--cores", "1", "-n", cwd=own)


def test_as_snakedeploy_writes_it_with_rules_from_a_tag_of_a_repository(installed, own, tmp_path, root):
    """Snakemake fetches the rules by git; a repository on this disk stands for GitHub's. A job is run."""
    repository = tmp_path / "repository"
    shutil.copytree(root / "workflow", repository / "workflow")
    git = ["git", "-C", str(repository), "-c", "user.email=a@example.org", "-c", "user.name=A"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "Rules"], ["tag", "v1"]):
        subprocess.run([*git, *command], check=True)
    shutil.rmtree(repository / "workflow")  # what is not at the tag plays no part
    (own / "Snakefile").write_text(MODULE.format(snakefile=f"git+file://{repository}/workflow/Snakefile@v1"))
    target = "results/datasets/digits/test/manifest.json"
    assert "other_prepare" in installed.snakemake("--cores", "1", target, cwd=own)
    assert (own / target).exists()


@pytest.mark.parametrize("way", ["--directory", pytest.param("module", marks=pytest.mark.slow), "init"])
def test_from_a_clone_without_installing(new_project, tmp_path, way):
    """In a job too: one is run."""
    outside = tmp_path / "outside"
    if way == "init":
        new_project.invp("init", str(outside))
    else:
        (outside / "config").mkdir(parents=True)
        (outside / "config/config.yaml").write_text("study: own\nexperiments: [smoke-invp]\nseeds: [0]\n")
    if way == "module":
        (outside / "Snakefile").write_text(MODULE.format(snakefile=new_project.folder / "workflow/Snakefile"))
    target = "results/datasets/digits/test/manifest.json"
    snakefile = [] if way == "--directory" else ["--snakefile", str(outside / "Snakefile")]
    new_project.run(sys.executable, "-m", "snakemake", "--cores", "1", *snakefile, "--directory", str(outside), target)
    assert (outside / target).exists()
