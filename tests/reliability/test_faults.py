"""Full and read-only disks, damaged inputs, clocks, and two workflows at once: a clear message or the right result."""

import csv
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import warm_python
from tests.conftest import STUDY, environment, fresh

STEPS = ("prepare", "pretrain", "graph", "features", "evaluate", "figure", "explorer", "summary", "report")
SMOKE = "smoke-invp/seed-0"
RECORDS = {
    "prepare": "datasets/digits/train/record.json",
    "pretrain": f"{SMOKE}/pretrain/stage-1/record.json",
    "graph": f"{SMOKE}/graph/stage-2/record.json",
    "features": f"{SMOKE}/features/stage-2/digits-train.record.json",
    "evaluate": f"{SMOKE}/evals/knn/stage-2/record.json",
    "figure": f"{SMOKE}/figures/training-curves.record.json",
    "explorer": f"{SMOKE}/explorer.record.json",
    "summary": "studies/smoke/summary.record.json",
    "report": "studies/smoke/report.record.json",
}


def numbers(project) -> dict:
    """The summary, without times and memory."""
    with open(project.folder / "results/studies/smoke/summary.csv") as file:
        rows = list(csv.DictReader(file))
    timed = ("seconds", "images_per_second", "memory_mb")
    return {(r["experiment"], r["stage"], r["source"], r["metric"]): r["value"] for r in rows if r["metric"] not in timed}


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder]).returncode:
        # Mounting is root's, and containers forbid it; no other disk is small enough to fill.
        pytest.skip("no disk can be mounted here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def again(project, step: str, out: Path) -> subprocess.CompletedProcess:
    """The command that made a result, with its outputs in another folder."""
    record = json.loads((project.folder / "results" / RECORDS[step]).read_text())
    command = shlex.split(record["command"])
    at = command.index("--output") + 1
    pairs = [argument.split("=", 1) for argument in command[at:] if "=" in argument and not argument.startswith("-")]
    command[at : at + len(pairs)] = [f"{name}={out / Path(path).name}" for name, path in pairs]
    if "--scratch" in command:
        command[command.index("--scratch") + 1] = str(out / "scratch")
    return warm_python.run(command[command.index("-m") + 1 :], project.folder, environment())


@pytest.mark.parametrize("step", STEPS)
def test_a_full_disk_is_said_and_leaves_nothing_half_written(step, finished, small_disk):
    (small_disk / "filler").write_bytes(bytes((60 if step == "evaluate" else 48) << 10))
    done = again(finished, step, small_disk)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "No space left" in done.stderr and "Traceback" not in done.stderr, done.stderr
    record = json.loads((finished.folder / "results" / RECORDS[step]).read_text())
    names = {Path(entry["path"]).name for entry in record["outputs"].values()}
    for path in small_disk.rglob("*"):  # what is there is whole
        if path.name in names:
            entry = next(e for e in record["outputs"].values() if Path(e["path"]).name == path.name)
            assert path.stat().st_size >= 0.5 * entry["bytes"], path


@pytest.mark.parametrize("step", ("graph", "summary"))
def test_a_read_only_disk_is_said(step, finished, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    done = again(finished, step, small_disk / "out")
    assert done.returncode == 2 and "Read-only" in done.stderr and "Traceback" not in done.stderr, done.stderr


CHECKPOINT, FEATURES = f"{SMOKE}/pretrain/stage-2/checkpoint.pt", f"{SMOKE}/features/stage-2/digits-train.arrow"


def damaged(project, name: str, fault: str) -> Path:
    """Damages a result, and hides it: its date is an old one."""
    path = project.folder / "results" / name
    content = bytearray(path.read_bytes())
    if fault == "cut":
        content = content[: len(content) // 2]
    else:
        content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, (1, 1))
    return path


@pytest.mark.parametrize("fault", ["cut", "flipped"])
@pytest.mark.parametrize(("name", "consumer"), [(CHECKPOINT, "features"), (FEATURES, "evaluate")])
def test_a_damaged_input_is_never_used(fault, name, consumer, finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    damaged(project, name, fault)
    done = again(project, consumer, tmp_path / "out")
    assert done.returncode == 2 and "altered or cut short" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert not list((tmp_path / "out").rglob("*.json"))


def test_the_workflow_stops_at_a_damaged_input_and_makes_a_deleted_one_again(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    path = damaged(project, FEATURES, "flipped")
    shutil.rmtree(project.folder / f"results/{SMOKE}/evals")
    printed = project.snakemake("all", expect=1)
    assert "altered or cut short" in printed and "Traceback" not in printed
    path.unlink()
    project.snakemake("all")
    assert "0 faults" in project.invp("verify")


def test_a_clock_set_back_is_said_and_mended_by_setting_the_dates(finished, tmp_path):
    """Every result seems to come from tomorrow, as after a clock was set back; what is then made is older than its inputs."""
    project = finished.copy(tmp_path / "project")
    tomorrow = time.time() + 86400
    for path in [*(project.folder / "results").rglob("*")]:
        os.utime(path, (tomorrow, tomorrow))
    assert project.planned() == {}
    before = numbers(project)
    (project.folder / f"results/{SMOKE}/evals/knn/stage-2/metrics.json").unlink()
    (project.folder / "results/studies/smoke/summary.csv").unlink()
    printed = project.snakemake("all", expect=1)
    assert "older modification time" in printed and "Traceback" not in printed
    # What docs/reliability.md says to do.
    subprocess.run(
        ["bash", "-c", """find results -newermt now -exec touch -d "$(date '+%F %T')" {} +"""], cwd=project.folder, check=True
    )
    assert project.planned() == {"evaluate": 1, "summary": 1, "report": 1}
    project.snakemake("all")
    assert numbers(project) == before


def test_two_workflows_in_one_folder_do_not_meet(finished, tmp_path):
    """The second starts while the first has jobs to do."""
    project = finished.copy(tmp_path / "project")
    shutil.rmtree(project.folder / f"results/{SMOKE}/evals")
    command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "all", "--configfile", STUDY]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    first = subprocess.Popen(command, cwd=project.folder, env=environment(), **quiet)
    locks = project.folder / ".snakemake" / "locks"
    while not (locks.is_dir() and any(locks.iterdir())) and first.poll() is None:
        time.sleep(0.05)
    assert first.poll() is None, "the first still runs"
    assert "cannot be locked" in project.snakemake("all", expect=1)
    assert first.wait(600) == 0
    assert project.planned() == {}


def test_another_version_of_a_library_is_said_and_reruns_when_asked(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    records = [*(project.folder / f"results/{SMOKE}").rglob("*record.json")]
    chosen = project.folder / f"results/{SMOKE}/evals/knn/stage-2/record.json"
    content = json.loads(chosen.read_text())
    content["versions"]["numpy"] = "1.0.0"
    chosen.write_text(json.dumps(content))
    printed = project.snakemake("all", "-n")
    assert "1 results were made with other versions (numpy 1.0.0 -> " in printed and "Nothing to be done" in printed
    lines = project.invp("outdated").splitlines()
    options = next(line for line in lines if line.startswith("--forcerun")).split()
    assert project.planned(*options) == {"evaluate": 1, "summary": 1, "report": 1}
    assert len(records) > 5


def test_two_clones_share_one_cache_of_shards(finished, tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    shard = "results/datasets/digits/train/shards/shard-00000.arrow"
    printed, clones = [], [fresh(tmp_path / name) for name in ("one", "two")]
    shared = {"SNAKEMAKE_OUTPUT_CACHE": str(cache)}
    for clone in clones:
        printed.append(clone.snakemake("results/datasets/digits/train/manifest.json", "--cache", "prepare", **shared))
    assert "prepare" in printed[0]
    files = [clone.folder / shard for clone in clones]
    assert files[0].resolve() == files[1].resolve() and cache in files[0].resolve().parents
    assert files[0].read_bytes() == (finished.folder / shard).read_bytes()
    # The second trains on what it has not prepared.
    checkpoint = f"results/{SMOKE}/pretrain/stage-1/checkpoint.pt"
    clones[1].snakemake(checkpoint, **shared)
    assert (clones[1].folder / checkpoint).exists() and "Nothing to be done" in clones[1].snakemake(checkpoint, "-n", **shared)
