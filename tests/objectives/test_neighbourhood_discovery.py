"""AND: rounds, anchors by entropy, and the loss over pairs."""

import math

import pytest
import torch
from rivals import Given, images
from torch import nn

from invp.core.neighbours import ABSENT
from invp.objectives import instance_discrimination
from invp.objectives.neighbourhood_discovery import Config, Objective

N, D, TAU = 20, 4, 0.3


def build(**options) -> Objective:
    config = Config(**({"round_epochs": 2, "temperature": TAU} | options))
    return Objective(config, Given(N, D), nn.Identity(), N, seed=3).double()


def no_embedding(function):
    pytest.fail("AND reads the bank")


def test_the_first_round_is_the_full_softmax():
    mine, options = build(), instance_discrimination.Config("full", temperature=TAU)
    theirs = instance_discrimination.Objective(options, Given(N, D), nn.Identity(), N, seed=3).double()
    mine.begin_epoch(1, no_embedding)
    mine.begin_epoch(2, no_embedding)
    assert (mine.neighbour == ABSENT).all()
    index = torch.tensor([3, 8])
    outputs = [objective([images(3, 8)], index, 1) for objective in (mine, theirs)]
    torch.testing.assert_close(outputs[0]["loss"], outputs[1]["loss"])
    gradients = [
        torch.autograd.grad(output["loss"], objective.encoder.rows)[0]
        for output, objective in zip(outputs, (mine, theirs), strict=True)
    ]
    torch.testing.assert_close(*gradients)


def test_each_round_takes_a_larger_share_of_the_surest_with_their_nearest_row():
    objective = build()
    rows = objective.memory()
    entropy = []
    for row in rows:
        p = [math.exp(row @ other / TAU) for other in rows]
        entropy.append(-sum(x / sum(p) * math.log(x / sum(p)) for x in p))
    surest = sorted(range(N), key=lambda i: entropy[i])
    for epoch, count in ((3, 5), (4, 5), (5, 10), (7, 15), (9, 20), (11, 20)):
        objective.begin_epoch(epoch, no_embedding)
        assert sorted((objective.neighbour != ABSENT).nonzero()[:, 0].tolist()) == sorted(surest[:count])
    for i, neighbour in enumerate(objective.neighbour.tolist()):
        assert neighbour == max((j for j in range(N) if j != i), key=lambda j: (rows[i] @ rows[j]).item())


def test_value_and_gradient_equal_loops():
    objective = build()
    rows = objective.encoder.rows
    objective.begin_epoch(5, no_embedding)
    index = (objective.neighbour != ABSENT).nonzero()[:2, 0].tolist()
    index += (objective.neighbour == ABSENT).nonzero()[:2, 0].tolist()
    losses = []
    for number in index:
        v = rows[number] / rows[number].norm()
        p = [torch.exp(v @ b / TAU) for b in objective.bank]
        pair = {number, objective.neighbour[number].item()} - {ABSENT}
        losses.append(-torch.log(sum(p[j] for j in pair) / sum(p)))
    expected = sum(losses) / 4
    output = objective([images(*index)], torch.tensor(index), 5)
    torch.testing.assert_close(output["loss"], expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, rows)[0] for loss in (output["loss"], expected)))
    uniform = (2 * math.log(N / 2) + 2 * math.log(N)) / 4
    torch.testing.assert_close(output["metrics"]["uniform_loss"].item(), uniform)
