"""NNCLR: its loss and gradients, the neighbours it finds, its queue and its predictor."""

import math

import pytest
import torch
import torch.nn.functional as F
from rivals import Given, images
from torch import nn

from invp.objectives import _batch, nnclr
from invp.objectives.nnclr import Config, Objective
from invp.plumbing.config import plugin_options
from invp.plumbing.errors import UserError

N, D, K, TAU = 12, 4, 6, 0.3
FIRST, SECOND = (3, 8, 0, 5), (4, 9, 1, 6)
VIEWS, INDEX = [images(*FIRST), images(*SECOND)], torch.tensor(FIRST)


def build(**options) -> Objective:
    torch.manual_seed(0)
    config = Config(**({"num_rows": K, "temperature": TAU, "hidden": 5, "batch_norm": False} | options))
    return Objective(config, Given(N, D), nn.Identity(), N, seed=3).double()


def unit(row: torch.Tensor) -> torch.Tensor:
    return row / row.norm()


def slow(objective: Objective, own: tuple, others: tuple) -> torch.Tensor:
    """One direction of the loss, in loops."""
    rows, losses = objective.encoder.rows, []
    predictions = [unit(objective.predictor(rows[other][None])[0]) for other in others]
    for i, number in enumerate(own):
        z = unit(rows[number].detach())
        near = objective.queue[int(torch.stack([row @ z for row in objective.queue]).argmax())]
        terms = [torch.exp(near @ p / TAU) for p in predictions]
        losses.append(-torch.log(terms[i] / sum(terms)))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("options", [{}, {"symmetric": False}, {"hidden": 0}, {"num_rows": 1}])
def test_value_and_gradients_equal_loops(options):
    objective = build(**options)
    output = objective(VIEWS, INDEX, 1)
    expected = slow(objective, FIRST, SECOND)
    if objective.config.symmetric:
        expected = (expected + slow(objective, SECOND, FIRST)) / 2
    torch.testing.assert_close(output["loss"], expected, rtol=1e-12, atol=0)
    parameters = list(objective.parameters())
    ours, theirs = (torch.autograd.grad(loss, parameters) for loss in (output["loss"], expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)
    by_view = [ours[0][list(numbers)].abs().sum(1) for numbers in (FIRST, SECOND)]
    assert (by_view[1] > 0).all() and bool((by_view[0] > 0).all()) == objective.config.symmetric
    torch.testing.assert_close(output["metrics"]["uniform_loss"].item(), math.log(4))


def test_neighbours_equal_lightly_while_the_queue_fills_and_wraps():
    modules = pytest.importorskip("lightly.models.modules", reason="lightly is not installed")
    objective, bank = build(num_rows=8), modules.NNMemoryBankModule((8, D))
    bank.bank = objective.queue.clone()
    for step in range(5):  # lightly drops what goes over the end, so K is a multiple of the batch here
        features = F.normalize(torch.randn(4, D, dtype=torch.float64, generator=torch.Generator().manual_seed(step)), dim=1)
        ours, similarity = objective.nearest(features)
        assert torch.equal(ours, bank(features, update=True))
        torch.testing.assert_close(similarity, (ours * features).sum(1))
        objective.end_step(INDEX, {"feature": features})
        assert torch.equal(objective.queue, bank.bank)


def test_one_direction_equals_cross_entropy_of_lightlys_neighbours():
    modules = pytest.importorskip("lightly.models.modules", reason="lightly is not installed")
    objective = build(symmetric=False)
    bank, rows = modules.NNMemoryBankModule((K, D)), objective.encoder.rows
    bank.bank = objective.queue.clone()
    predictions = F.normalize(objective.predictor(rows[list(SECOND)]), dim=1)
    expected = F.cross_entropy(bank(rows[list(FIRST)].detach()) @ predictions.T / TAU, torch.arange(4))
    torch.testing.assert_close(objective(VIEWS, INDEX, 1)["loss"], expected, rtol=1e-12, atol=0)


def test_a_feature_that_is_in_the_queue_is_its_own_neighbour():
    objective = build()
    feature = objective(VIEWS, INDEX, 1)["memory"]["feature"]
    torch.testing.assert_close(feature, F.normalize(objective.encoder.rows[list(FIRST)].detach(), dim=1))
    objective.end_step(INDEX, {"feature": feature})
    near, similarity = objective.nearest(feature)
    assert torch.equal(near, feature)
    torch.testing.assert_close(similarity, torch.ones(4, dtype=torch.float64))


def test_the_queue_holds_the_last_features_and_wraps_around():
    objective = build()
    torch.testing.assert_close(objective.queue.norm(dim=1), torch.ones(K, dtype=torch.float64))
    history = list(objective.queue.clone())
    for size in (4, 4, 4, 5, 9, 6):  # 9 are more than the queue has
        features = torch.randn(size, D, dtype=torch.float64)
        objective.end_step(torch.arange(size), {"feature": features})
        history += list(features)
        assert {tuple(row.tolist()) for row in objective.queue} == {tuple(row.tolist()) for row in history[-K:]}


def test_halves_of_the_batch_have_the_loss_and_gradients_of_the_whole(monkeypatch):
    """Each of two processes compares its own neighbours with the predictions of both."""
    objective, gathered = build(), []
    monkeypatch.setattr(_batch, "gather", lambda rows: gathered.append(rows) or rows)
    whole = objective(VIEWS, INDEX, 1)
    losses = []
    for rank in range(2):
        mine, predictions = slice(2 * rank, 2 * rank + 2), iter(gathered[:2])

        def both(rows, mine=mine, predictions=predictions):
            everyone = next(predictions)
            torch.testing.assert_close(everyone[mine], rows)  # what this process gives
            return everyone

        monkeypatch.setattr(_batch, "gather", both)
        for module in (nnclr, _batch):
            monkeypatch.setattr(module, "rank_and_world_size", lambda rank=rank: (rank, 2))
        part = objective([view[mine] for view in VIEWS], INDEX[mine], 1)
        losses.append(part["loss"])
        assert part["metrics"]["uniform_loss"] == whole["metrics"]["uniform_loss"]
    mean = sum(losses) / 2
    torch.testing.assert_close(mean, whole["loss"])
    parameters = list(objective.parameters())
    pairs = zip(*(torch.autograd.grad(loss, parameters, retain_graph=True) for loss in (mean, whole["loss"])), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other)


def test_the_predictor_is_the_papers_or_none():
    kinds = [type(layer) for layer in build(batch_norm=True).predictor]
    assert kinds == [nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear]
    assert [tuple(layer.weight.shape) for layer in build().predictor if isinstance(layer, nn.Linear)] == [(5, D), (D, 5)]
    assert not list(build(hidden=0).predictor.parameters())


def test_a_step_with_batch_normalisation_draws_predictions_to_neighbours():
    objective = build(batch_norm=True, hidden=32)
    optimizer = torch.optim.SGD(objective.parameters(), 0.1)
    losses = []
    for _ in range(60):
        output = objective(VIEWS, INDEX, 1)
        optimizer.zero_grad()
        output["loss"].backward()
        optimizer.step()
        objective.end_step(INDEX, output["memory"])
        losses.append(output["loss"].item())
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize(("key", "value"), [("num_rows", 0), ("temperature", 0.0), ("hidden", -1), ("symmetric", 1.5)])
def test_bad_options_are_refused(key, value):
    with pytest.raises(UserError, match=key):
        plugin_options("objectives", {"name": "nnclr", key: value}, "test")
