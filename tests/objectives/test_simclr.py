"""SimCLR: its loss, its gradients, and the same over two processes."""

import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from rivals import Given, images
from torch import nn

from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.objectives import moco, simclr

N, D, TAU = 12, 4, 0.3


def build() -> simclr.Objective:
    return simclr.Objective(simclr.Config(temperature=TAU), Given(N, D), nn.Identity(), N, seed=3).double()


def test_value_and_gradient_equal_loops():
    objective = build()
    rows = objective.encoder.rows
    output = objective([images(3, 8, 0), images(4, 9, 1)], torch.tensor([3, 8, 0]), 1)
    numbers, losses = [3, 8, 0, 4, 9, 1], []
    for i, number in enumerate(numbers):

        def term(other, own=number):
            return torch.exp(rows[own] @ rows[other] / rows[own].norm() / rows[other].norm() / TAU)

        other = numbers[(i + 3) % 6]
        losses.append(-torch.log(term(other) / sum(term(j) for j in numbers if j != number)))
    expected = sum(losses) / 6
    torch.testing.assert_close(output["loss"], expected)
    ours, theirs = torch.autograd.grad(output["loss"], rows)[0], torch.autograd.grad(expected, rows)[0]
    torch.testing.assert_close(ours, theirs)
    assert (ours[numbers].abs().sum(1) > 0).all()  # both views


def test_equals_lightly():
    losses = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    objective = build()
    rows = objective.encoder.rows
    ours = objective([images(3, 8, 0), images(4, 9, 1)], torch.tensor([3, 8, 0]), 1)["loss"]
    theirs = losses.NTXentLoss(temperature=TAU)(rows[[3, 8, 0]], rows[[4, 9, 1]])
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, rows)[0] for loss in (ours, theirs)))


def share(rank: int, world_size: int, port: int, folder: str) -> None:
    """One process of two: SimCLR's gradient from half the batch, and MoCo's keys under batch normalisation."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size)
    torch.save(results(rank, world_size), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def results(rank: int, world_size: int) -> dict:
    mine = slice(rank * 4 // world_size, (rank + 1) * 4 // world_size)
    objective = build()
    objective([images(3, 8, 0, 5)[mine], images(4, 9, 1, 6)[mine]], torch.tensor([3, 8, 0, 5])[mine], 1)["loss"].backward()
    torch.manual_seed(0)
    encoder = build_encoder(
        {"name": "resnet_small", "stem": "auto", "width": 8, "blocks": 1, "norm": "batch", "zero_init_residual": False}, 8
    )
    head = build_head({"kind": "linear", "dimensions": 8}, 32)
    rival = moco.Objective(moco.Config(num_keys=8, norm_group=2), encoder, head, 99, seed=1)
    views = torch.randn(8, 3, 8, 8)
    mine = slice(rank * 8 // world_size, (rank + 1) * 8 // world_size)
    key = rival.embeddings([views[mine], views[mine]], torch.arange(8)[mine] + 5, 3)[1]
    return {"gradient": objective.encoder.rows.grad, "key": key}


def test_two_processes_have_the_gradient_and_the_shuffled_keys_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(share, (2, port, str(tmp_path)), nprocs=2)
    one, halves = results(0, 1), [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    # DDP takes the mean of the gradients of processes.
    torch.testing.assert_close((halves[0]["gradient"] + halves[1]["gradient"]) / 2, one["gradient"])
    torch.testing.assert_close(torch.cat([half["key"] for half in halves]), one["key"], rtol=1e-4, atol=1e-5)
