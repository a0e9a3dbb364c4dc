"""MoCo v3: its loss against torch, loops and the project's InfoNCE, keys of other processes, its momentum, and heads as the authors'."""

import math

import pytest
import torch
import torch.nn.functional as F
from rivals import Given, images
from torch import nn

from invp.core.contrastive import info_nce
from invp.models.heads import build_head, build_mlp
from invp.objectives import _batch, moco_v3
from invp.objectives.moco_v3 import Config, Objective
from invp.plumbing.config import structured
from invp.plumbing.errors import UserError
from invp.plumbing.sections import Head

N, D, TAU = 12, 4, 0.3
FIRST, SECOND = (3, 8, 0, 5), (4, 9, 1, 6)
VIEWS, INDEX = [images(*FIRST), images(*SECOND)], torch.tensor(FIRST)


def build(**options) -> Objective:
    torch.manual_seed(0)
    config = Config(**({"temperature": TAU, "hidden": 6, "momentum": 0.9, "batch_norm": False, "last_norm": False} | options))
    objective = Objective(config, Given(N, D), nn.Identity(), N, seed=3).double()
    with torch.no_grad():
        objective.encoder.rows += 0.3  # so that the momentum encoder differs
    return objective


def unit(row: torch.Tensor) -> torch.Tensor:
    return row / row.norm()


def one_way(objective: Objective, own: tuple, others: tuple) -> torch.Tensor:
    keys = [unit(objective.key.encoder.rows[number]) for number in others]
    losses = []
    for i, number in enumerate(own):
        query = unit(objective.predictor(objective.encoder.rows[number][None])[0])
        terms = [torch.exp(query @ key / TAU) for key in keys]
        losses.append(-2 * TAU * torch.log(terms[i] / sum(terms)))
    return sum(losses) / len(losses)


def test_value_and_gradients_equal_loops_and_keys_take_no_gradient():
    objective = build()
    output = objective(VIEWS, INDEX, 1)
    expected = one_way(objective, FIRST, SECOND) + one_way(objective, SECOND, FIRST)
    torch.testing.assert_close(output["loss"], expected, rtol=1e-12, atol=0)
    trained = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    for one, other in zip(*(torch.autograd.grad(loss, trained) for loss in (output["loss"], expected)), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-14)
    assert not any(parameter.requires_grad for parameter in objective.key.parameters())


def test_it_is_twice_tau_the_cross_entropy_and_info_nce_with_the_batch_as_negatives():
    objective = build()
    output = objective(VIEWS, INDEX, 1)
    queries = [F.normalize(objective.predictor(objective.encoder.rows[list(view)]), dim=1) for view in (FIRST, SECOND)]
    keys = [objective.key(view) for view in VIEWS]
    ways = [(queries[0], keys[1]), (queries[1], keys[0])]
    torch.testing.assert_close(output["loss"], sum(2 * TAU * F.cross_entropy(q @ k.T / TAU, torch.arange(4)) for q, k in ways))
    nce = [
        info_nce(q[[i]], k[[i]], k[[j for j in range(4) if j != i]], TAU) for q, k in ways for i in range(4)
    ]  # the others are negatives
    torch.testing.assert_close(output["loss"], 4 * TAU * torch.cat(nce).mean())
    torch.testing.assert_close(output["metrics"]["loss_instance"], torch.cat(nce).mean().detach())
    assert output["metrics"]["uniform_loss"].item() == pytest.approx(math.log(4))


def test_halves_of_the_batch_have_the_loss_of_the_whole(monkeypatch):
    objective, gathered = build(), []
    monkeypatch.setattr(_batch, "gather", lambda rows: gathered.append(rows) or rows)
    whole, losses = objective(VIEWS, INDEX, 1), []
    for rank in range(2):
        mine, keys = slice(2 * rank, 2 * rank + 2), iter(gathered[:2])
        monkeypatch.setattr(_batch, "gather", lambda rows, keys=keys: next(keys))
        for module in (moco_v3, _batch):
            monkeypatch.setattr(module, "rank_and_world_size", lambda rank=rank: (rank, 2))
        part = objective([view[mine] for view in VIEWS], INDEX[mine], 1)
        losses.append(part["loss"])
        assert part["metrics"]["uniform_loss"] == whole["metrics"]["uniform_loss"]
    torch.testing.assert_close(sum(losses) / 2, whole["loss"])


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.1), (0.5, 0.05), (1.0, 0.0)])
def test_the_momentum_rises_from_its_start_to_one(progress, share):
    objective = build()
    objective.progress = progress
    start, now = objective.key.encoder.rows.clone(), objective.encoder.rows.detach()
    objective.end_step(INDEX, {})
    torch.testing.assert_close(objective.key.encoder.rows, start + share * (now - start))


def test_heads_are_the_authors():
    """Three layers with normalised hidden layers and output; the predictor has two."""
    options = structured(
        Head,
        {"kind": "mlp", "layers": 3, "hidden": 20, "dimensions": 6, "norm": "batch", "last_norm": True},
        "test",
    )
    head = build_head(options, 5)
    hidden = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert [type(layer) for layer in head] == [*hidden, *hidden, nn.Linear, nn.BatchNorm1d]
    assert [tuple(layer.weight.shape) for layer in head if isinstance(layer, nn.Linear)] == [(20, 5), (20, 20), (6, 20)]
    assert not any(layer.bias is not None for layer in head if isinstance(layer, nn.Linear)) and not list(head[-1].parameters())
    torch.testing.assert_close(head(torch.randn(50, 5)).std(0, correction=0), torch.ones(6), rtol=1e-3, atol=0)
    assert [type(layer) for layer in build(batch_norm=True, last_norm=True).predictor] == [*hidden, nn.Linear, nn.BatchNorm1d]
    plain = build_mlp([5, 7, 6], False, "gelu")
    assert [type(layer) for layer in plain] == [nn.Linear, nn.GELU, nn.Linear] and all(
        layer.bias is not None for layer in plain[::2]
    )


@pytest.mark.parametrize(
    ("kind", "key", "value"), [("linear", "layers", 3), ("none", "last_norm", True), ("mlp", "layers", 1), ("mlp", "norm", "layer")]
)
def test_options_of_a_head_that_has_no_use_for_them_are_refused(kind, key, value):
    with pytest.raises(UserError, match=key):
        structured(Head, {"kind": kind, key: value}, "test")
