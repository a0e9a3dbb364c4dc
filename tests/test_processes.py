"""What several processes of a training agree on, and where one may save and leave: real processes with gloo."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from invp.plumbing.errors import UserError
from invp.training import stop as stops
from invp.training.checkpoint import load_checkpoint
from invp.training.distributed import Group
from invp.training.loop import Stage
from tests.test_pretrain import experiment, pretrain_section

ROOT = Path(__file__).resolve().parent.parent
CPU = torch.device("cpu")


def two_processes(code: str, *arguments: str) -> list[str]:
    """Runs the code in two processes of one group, and returns what each printed."""
    with socket.socket() as free:
        free.bind(("", 0))
        port = str(free.getsockname()[1])
    code = f"import sys\nfrom invp.training.distributed import join\ngroup = join()\n{code}\ngroup.leave()\n"
    shared = {**os.environ, "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-c", code, *arguments]
    options = {"cwd": ROOT, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    processes = [subprocess.Popen(command, env={**shared, "RANK": str(rank)}, **options) for rank in range(2)]
    printed = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], printed
    return printed


RESUME = """
import torch
from pathlib import Path
from invp.plumbing.errors import UserError
from invp.training.resume import state_to_resume
folder = Path(sys.argv[1])
if group.first:
    for name, epoch in (("same", 1), ("of-first", 1)):
        torch.save({"objective": {}, "epoch": epoch, "step": 3, "fingerprint": "f"}, folder / f"{name}.pt")
    torch.save({"objective": {}, "epoch": 2, "step": 5, "fingerprint": "f"}, folder / "further.pt")
torch.distributed.barrier()
for own, others in (("same", "same"), ("none", "same"), ("of-first", "none"), ("same", "further")):
    try:
        state = state_to_resume(folder / f"{own if group.first else others}.pt", "f", group)
        print(own, others, state and (state["epoch"], state["step"]))
    except UserError as error:
        print(own, others, error)
"""


def test_the_first_process_decides_whether_to_resume_and_all_agree_or_the_job_ends(tmp_path):
    first, second = (printed.splitlines() for printed in two_processes(RESUME, str(tmp_path)))
    assert first[:2] == second[:2] == ["same same (1, 3)", "none same None"], "what only another process has counts for nothing"
    wrong = "not every process reads there what the first one does, epoch 2 after step 3"
    assert all(wrong in line for lines in (first, second) for line in lines[2:])
    assert "process 1: it is not there" in second[2] and "process 1: it is of epoch 3, after step 5" in second[3]


CLUSTERS = """
import torch
from invp.objectives import _clusters
if not group.first:
    _clusters.kmeans = None  # never called there
rows = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
found = _clusters.shared_kmeans(rows, 5, seed=1, iterations=5)
print(found.cluster.tolist(), [round(float(value.double().sum()), 5) for value in found])
"""


def test_one_process_clusters_for_all():
    first, second = two_processes(CLUSTERS)
    assert first == second and len(first) > 100


FLAGS = """
from invp.training.distributed import on_any_process, said_by_first
print(on_any_process(group.first, False, not group.first), said_by_first({"from": group.rank}))
"""


def test_flags_travel_together():
    assert two_processes(FLAGS) == ["[True, False, True] {'from': 0}\n"] * 2


@pytest.fixture
def request_to_stop():
    """Nobody has asked yet; signals are as before afterwards."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    yield stops.StopRequest(0)
    stops.StopRequest.current = None
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("objective", ["pcl", "local_aggregation"])
def test_a_training_leaves_while_it_makes_clusters(objective, request_to_stop, digits, tmp_path):
    """Before the epoch's first step: clusters of ImageNet take longer than SLURM waits."""
    request_to_stop.reason = "SIGTERM"
    section = pretrain_section(experiment(objective, warmup_epochs=0), 0, 4)
    stage = Stage(section, digits["train"], None, Group(0, 1, CPU), "test")
    assert not stage.run(4, tmp_path / "partial.pt", 10, request_to_stop)
    state = load_checkpoint(tmp_path / "partial.pt")
    assert (state["epoch"], state["step"], state["sums"]) == (0, 0, {"seconds": 0.0}) and stage.objective.training


def test_what_a_device_holds_is_looked_at_every_few_steps(request_to_stop, digits, tmp_path):
    """As on a GPU: the loss is no number from step 3 on, which is found in step 10, and named."""
    section = pretrain_section(experiment("instance_discrimination"), 0, 4)
    stage = Stage(section, digits["train"], None, Group(0, 1, CPU), "test")
    stage.look_every, looks = 10, []
    train_step, check = stage._train_step, stage._check_finite
    stage._check_finite = lambda: looks.append(stage.step) or check()

    def broken(step, index, views):
        train_step(step, index, [view * float("nan") for view in views] if step == 2 else views)

    stage._train_step = broken
    with pytest.raises(UserError, match=r"the loss is nan in epoch 1, step 3; the batch's indices are \[(\d+, ){31}\d+\]"):
        stage.run(4, tmp_path / "partial.pt", 10, request_to_stop)
    assert looks == [10]


def test_a_metric_may_be_a_plain_number(request_to_stop, digits, tmp_path):
    section = pretrain_section(experiment("instance_discrimination"), 0, 1)
    stage = Stage(section, digits["train"], None, Group(0, 1, CPU), "test")
    forward = stage.objective.forward

    def with_number(*arguments):
        output = forward(*arguments)
        output["metrics"]["plain"] = 2.5
        return output

    stage.objective.forward = with_number
    stage.run(1, tmp_path / "partial.pt", 10, request_to_stop)
    assert stage.rows[0]["plain"] == 2.5
