"""Tries of a job: a mistake is not made five times, the log of each try is kept, and what a killed one left is removed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from invp.plumbing import tries
from invp.plumbing.files import atomic_path, write_json

STUDY = "config/studies/tries.yaml"
EXPERIMENT = "extends: smoke-invp\ntraining: {learning_rate: 1.0e+30, epochs: 1}\nobjective: {ramp_epoch: 0}\nstages: [1]\n"


def test_a_mistake_of_the_users_is_not_made_again_and_every_log_is_kept(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    (project.folder / "config/experiments/infinite.yaml").write_text(EXPERIMENT)
    (project.folder / STUDY).write_text("study: tries\nexperiments: [infinite]\n")
    target = "results/infinite/seed-0/pretrain/stage-1/checkpoint.pt"
    project.snakemake(target, "--retries", "2", study=STUDY, expect=1)
    logs = sorted((project.folder / "results/logs/pretrain").glob("infinite-*.try-*"))
    assert [path.name.removeprefix("infinite-seed-0-stage-1.") for path in logs] == ["log.try-1", "log.try-2", "log.try-3"]
    first, second, third = (path.read_text() for path in logs)
    assert "error: the loss is" in first and "cannot mend" not in first
    assert second.startswith("error: the loss is") and "another one cannot mend it" in second and second == third
    # Started again by hand, it is tried again.
    project.snakemake(target, "--retries", "0", study=STUDY, expect=1)
    assert "cannot mend" not in logs[0].read_text()
    assert "0 faults" in project.invp("verify")


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("1/9 img\nerror: collapsed: lower the rate\n", "collapsed: lower the rate"),
        ("error: in a process\nTraceback of torchrun\nexit code 1\n", "in a process"),
        ("error: [Errno 28] No space left on device: make room, then start again\n", ""),
        ("slurmstepd: error: killed\n", ""),
        ("Traceback\nValueError: error: no\n", ""),
        (None, ""),
    ],
)
def test_what_another_try_may_mend_is_tried_again(log, expected, tmp_path):
    if log is not None:
        (tmp_path / "a.log.try-1").write_text(log)
    found = tries.lasting_mistake(tmp_path / "a.log", 2)
    assert found == (expected and expected + tries.LASTS)
    (tmp_path / "a.log.try-2").write_text(f"error: {found}\n" if found else "")
    assert tries.lasting_mistake(tmp_path / "a.log", 3) == found, "it is said once"
    assert tries.lasting_mistake(tmp_path / "a.log", 1) == ""


def test_the_log_of_a_killed_try_outlives_its_deletion(tmp_path):
    log = tmp_path / "a.log"
    code = "import os, sys; from pathlib import Path; from invp.plumbing.tries import keep_log; keep_log(Path(sys.argv[1]), 1)\n"
    code += "print('half done', flush=True); os.kill(os.getpid(), 9)"
    with open(log, "w") as file:
        subprocess.run([sys.executable, "-c", code, str(log)], cwd=Path(__file__).parents[2], stdout=file)
    log.unlink()  # as Snakemake does before the next try
    assert (tmp_path / "a.log.try-1").read_text() == "half done\n"
    tries.drop_log(log, 1)
    assert not list(tmp_path.iterdir())


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    ended = subprocess.Popen(["true"])
    ended.wait()
    node = os.uname().nodename
    dead, alive, other = (
        tmp_path / f".a.json.{name}.tmp" for name in (f"{node}-{ended.pid}", f"{node}-{os.getppid()}", "elsewhere-1")
    )
    for path in (dead, alive, other):
        path.write_text("half")
    write_json(tmp_path / "a.json", 1)
    assert not dead.exists() and alive.exists() and other.exists()
    with atomic_path(tmp_path / "b.json") as temporary:
        temporary.write_text("x")
    assert sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith(".")) == ["a.json", "b.json"]
