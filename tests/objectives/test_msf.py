"""Mean Shift: the loss and its gradient, BYOL as its case of one neighbour, both ways, and MNN's mixtures."""

import pytest
import torch
import torch.nn.functional as F
from rivals import Given, images
from torch import nn

from invp.core.selection import hashed_uniform
from invp.models.encoders import build_encoder
from invp.objectives.msf import MIX_STREAM, Config, Objective
from invp.plumbing.errors import UserError

N, D, K, SEED = 12, 4, 7, 3
FIRST, SECOND = (3, 8, 0), (4, 9, 1)


def build(**options) -> Objective:
    config = Config(**({"k": 3, "num_keys": K, "momentum": 0.9, "hidden": 16, "norm_group": 0} | options))
    torch.manual_seed(0)  # of the predictor
    objective = Objective(config, Given(N, D), nn.Identity(), N, seed=SEED).double()
    with torch.no_grad():
        objective.encoder.rows += 0.5  # so that the momentum encoder differs
    return objective


def unit(row: torch.Tensor) -> torch.Tensor:
    return row / row.norm()


def prediction(objective: Objective, number: int) -> torch.Tensor:
    first, _, _, last = objective.predictor
    return unit(last.weight @ (first.weight @ objective.encoder.rows[number] + first.bias).clamp(min=0) + last.bias)


def target(objective: Objective, number: int) -> torch.Tensor:
    return unit(objective.key.encoder.rows[number]).detach()


def nearest(key: torch.Tensor, rows: list, k: int) -> list:
    return sorted(rows, key=lambda row: float((key - row).square().sum()))[:k]


def one_way(objective: Objective, seen: tuple, targets: tuple) -> torch.Tensor:
    queue = [target(objective, number) for number in targets] + list(objective.queue[len(targets) :])  # the oldest are the first
    losses = []
    for query, key in zip(seen, targets, strict=True):
        u, z = prediction(objective, query), target(objective, key)
        losses.append(sum((u - row).square().sum() for row in nearest(z, queue, objective.config.k)) / objective.config.k)
    return sum(losses) / len(losses)


def gradients(objective: Objective, loss: torch.Tensor) -> list:
    return list(torch.autograd.grad(loss, [parameter for parameter in objective.parameters() if parameter.requires_grad]))


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("k", [1, 3, K])
def test_value_and_gradient_equal_loops_and_targets_take_no_gradient(k, symmetric):
    objective = build(k=k, symmetric=symmetric)
    output = objective([images(*FIRST), images(*SECOND)], torch.tensor(FIRST), 1)
    expected = one_way(objective, FIRST, SECOND)
    if symmetric:
        expected = (expected + one_way(objective, SECOND, FIRST)) / 2
    torch.testing.assert_close(output["loss"], expected)
    ours = gradients(objective, output["loss"])
    for mine, theirs in zip(ours, gradients(objective, expected), strict=True):
        torch.testing.assert_close(mine, theirs)
    moved = ours[0].abs().sum(1) > 0
    assert moved.nonzero().flatten().tolist() == sorted(FIRST + SECOND if symmetric else FIRST)
    assert torch.equal(output["memory"]["key"], torch.stack([target(objective, number) for number in SECOND]))


def test_with_one_neighbour_it_is_byol():
    """Its squared distance of predictions to the targets themselves, both ways, needs no queue."""
    objective = build(k=1, symmetric=True)
    loss = objective([images(*FIRST), images(*SECOND)], torch.tensor(FIRST), 1)["loss"]
    expected = 0
    for seen, targets in ((FIRST, SECOND), (SECOND, FIRST)):
        predictions, rows = objective.predictor(objective.encoder.rows[list(seen)]), objective.key.encoder.rows[list(targets)]
        expected = expected + (2 - 2 * F.cosine_similarity(predictions, rows)).mean() / 2
    torch.testing.assert_close(loss, expected)
    for mine, theirs in zip(gradients(objective, loss), gradients(objective, expected), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_neighbours_are_sought_among_the_batch_and_the_newest_keys():
    """A key that this batch replaces is no neighbour, and another image of the batch may be one."""
    objective = build(k=2)
    with torch.no_grad():
        objective.key.encoder.rows[9] = objective.key.encoder.rows[4] * 1.5
        objective.queue[0] = target(objective, 4)  # the oldest
        objective.queue[1:] = -target(objective, 4)
    loss = objective([images(3, 8), images(4, 9)], torch.tensor([3, 8]), 1)["loss"]
    u, z = torch.stack([prediction(objective, 3), prediction(objective, 8)]), target(objective, 4)
    torch.testing.assert_close(loss, (u - z).square().sum(1).mean())
    objective = build(k=2)
    with torch.no_grad():
        objective.queue[0] = target(objective, 4)
        objective.queue[1:] = -target(objective, 4)
    loss = objective([images(3), images(4)], torch.tensor([3]), 1)["loss"]
    u, z = prediction(objective, 3), target(objective, 4)
    torch.testing.assert_close(loss, ((u - z).square().sum() + (u + z).square().sum()) / 2)


@pytest.mark.parametrize("k", [1, 2])
def test_mixtures_equal_loops_and_their_shares_differ_between_images_and_epochs(k):
    objective, index = build(k=k, mix=True), torch.tensor(FIRST)
    values = []
    for epoch in (1, 2):
        output = objective([images(*FIRST), images(*SECOND)], index, epoch)
        shares = hashed_uniform(index, 1, SEED + MIX_STREAM, epoch).flatten().tolist()
        losses = []
        for query, key, share in zip(FIRST, SECOND, shares, strict=True):
            u, z = prediction(objective, query), target(objective, key)
            mixed = [share * row + (1 - share) * z for row in nearest(z, list(objective.queue), k)]
            losses.append((u - z).square().sum() + sum(2 - 2 * u @ row for row in mixed) / k)
        expected = sum(losses) / 3
        torch.testing.assert_close(output["loss"], expected)
        for mine, theirs in zip(gradients(objective, output["loss"]), gradients(objective, expected), strict=True):
            torch.testing.assert_close(mine, theirs)
        assert len(set(shares)) == 3
        values.append(output["loss"].item())
    assert values[0] != values[1]


def test_the_predictor_is_normalised_as_the_encoder_is():
    options = {"name": "resnet_small", "stem": "auto", "width": 8, "blocks": 1, "zero_init_residual": False}
    for norm, kind in (("batch", nn.BatchNorm1d), ("group", nn.Identity)):
        encoder = build_encoder(options | {"norm": norm}, 16)
        assert isinstance(Objective(Config(num_keys=9), encoder, nn.Linear(encoder.num_features, D), N, seed=1).predictor[1], kind)


def test_impossible_options_are_refused():
    with pytest.raises(UserError, match=r"k must be at most num_keys \(7\), and is 8"):
        build(k=8)
    with pytest.raises(UserError, match="num_keys must be at least the 3 images of a batch, and is 2"):
        build(k=1, num_keys=2)([images(*FIRST), images(*SECOND)], torch.tensor(FIRST), 1)
