"""The InvP plug-in: training against invp.core.reference; its memory, its graph, its options and its state."""

import math

import pytest
import torch
from torch import nn

from invp.core import reference
from invp.core.neighbours import ABSENT, knn_graph
from invp.objectives.invp import Config, Objective
from invp.plumbing.errors import UserError

N, D = 40, 5


class Given(nn.Module):
    """An encoder whose features are its parameters, so that the gradient by each feature can be read."""

    num_features = D

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(N, D, generator=torch.Generator().manual_seed(1)))

    def forward(self, x):
        return self.rows[x.flatten().long()]


def build(**options) -> Objective:
    values = {"k": 3, "steps": 2, "num_positives": 4, "num_negatives": 12, "temperature": 0.2, "ramp": "constant"}
    return Objective(Config(**(values | options)), Given(), nn.Identity(), N, seed=2)


def run(objective: Objective, epochs: range, *, lr: float = 0.05) -> list[float]:
    """Trains for some epochs, the order a function of the epoch; returns the losses."""
    losses = []
    for epoch in epochs:
        objective.begin_epoch(epoch, lambda function: pytest.fail("InvP embeds nothing"))
        order = torch.randperm(N, generator=torch.Generator().manual_seed(epoch))
        for index in order.split(8):
            output = objective([index[:, None]], index, epoch)
            objective.zero_grad()
            output["loss"].backward()
            with torch.no_grad():
                objective.encoder.rows -= lr * objective.encoder.rows.grad
            objective.end_step(index, output["memory"])
            losses.append(output["loss"].item())
    return losses


@pytest.mark.parametrize("num_negatives", [12, 2, 0])
@pytest.mark.parametrize("graph", ["lazy", "epoch"])
def test_three_epochs_equal_the_reference(graph, num_negatives):
    """Loss, gradient by the parameters, bank and graph after each step; the invariance loss begins with the second epoch."""
    values = {"k": 3, "steps": 2, "num_positives": 4, "num_negatives": num_negatives, "temperature": 0.2, "ramp_epoch": 1}
    objective = Objective(Config(**values, graph=graph), Given(), nn.Identity(), N, seed=2).double()
    rows, bank = objective.encoder.rows, objective.bank.clone()
    constants = reference.Constants(tau=0.2, k=3, steps=2, P=4, M=num_negatives or N, weight=0.6, T=1, m=0.5)
    neighbours: list[list[int]] = [[] for _ in range(N)]
    for epoch in (1, 2, 3):
        objective.begin_epoch(epoch, lambda function: pytest.fail("InvP embeds nothing"))
        if graph == "epoch":
            neighbours = reference.knn_graph(torch.nn.functional.normalize(bank, dim=1), constants.k)
        for index in torch.randperm(N, generator=torch.Generator().manual_seed(epoch)).split(7):
            V = rows[index] / rows[index].norm(dim=1, keepdim=True)
            expected = reference.loss(V, index.tolist(), bank, neighbours, epoch, constants) / len(index)
            output = objective([index[:, None]], index, epoch)
            torch.testing.assert_close(output["loss"], expected, rtol=1e-10, atol=1e-10)
            (gradient,) = torch.autograd.grad(output["loss"], rows)
            torch.testing.assert_close(gradient, torch.autograd.grad(expected, rows)[0], rtol=1e-8, atol=1e-10)
            if graph == "lazy":  # from the features and the bank of before the update
                for v, i in zip(V.detach(), index.tolist(), strict=True):
                    neighbours[i] = reference.neighbours(reference.similarities(v, bank), i, constants.k)
            bank = reference.updated_bank(bank, index.tolist(), V, constants.m)
            objective.end_step(index, output["memory"])
            torch.testing.assert_close(objective.bank, bank, rtol=1e-12, atol=1e-12)
            assert [[j for j in row if j != ABSENT] for row in objective.table.tolist()] == neighbours
            with torch.no_grad():
                rows -= 0.05 * gradient


def test_the_lazy_graph_rewrites_visited_rows_alone_from_the_bank_before_the_update():
    objective = build()
    assert (objective.table == ABSENT).all()
    index = torch.tensor([7, 3, 11])
    output = objective([index[:, None]], index, 1)
    feature = torch.nn.functional.normalize(objective.encoder.rows[index].detach(), dim=1)
    similarity = feature @ objective.bank.T
    objective.end_step(index, output["memory"])
    for s, i in zip(similarity, index.tolist(), strict=True):
        assert objective.table[i].tolist() == reference.neighbours(s, i, 3)
    assert (objective.table[[i for i in range(N) if i not in (3, 7, 11)]] == ABSENT).all()


@pytest.mark.parametrize("graph", ["epoch", "stage"])
def test_an_exact_graph_is_the_snapshot_of_the_bank_when_it_is_due(graph):
    objective = build(graph=graph)
    objective.stages = (2, 4)
    for epoch in range(1, 6):
        before = objective.table.clone()
        snapshot = knn_graph(objective.memory(), 3)[1]
        run(objective, range(epoch, epoch + 1))
        due = graph == "epoch" or epoch in (1, 3, 5)
        assert torch.equal(objective.table, snapshot if due else before)


@pytest.mark.parametrize("graph", ["lazy", "epoch", "stage"])
def test_state_resumes_to_the_bit(graph):
    whole, first, second = build(graph=graph), build(graph=graph), build(graph=graph)
    losses = run(whole, range(1, 7))
    begun = run(first, range(1, 4))
    second.load_state_dict(first.state_dict())
    assert begun + run(second, range(4, 7)) == losses
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_two_halves_of_a_batch_give_the_gradient_of_the_whole():
    """What data-parallel training relies on: a rank's rows do not depend on the rest of its batch."""
    objective = build()
    run(objective, range(1, 3))
    index = torch.tensor([4, 9, 30, 2])
    whole = objective([index[:, None]], index, 3)
    halves = [objective([half[:, None]], half, 3) for half in index.split(2)]
    torch.testing.assert_close(whole["loss"], sum(half["loss"] for half in halves) / 2)
    for name, value in whole["memory"].items():
        torch.testing.assert_close(value, torch.cat([half["memory"][name] for half in halves]))
    (gradient,) = torch.autograd.grad(whole["loss"], objective.encoder.rows)
    (mean,) = torch.autograd.grad(sum(half["loss"] for half in halves) / 2, objective.encoder.rows)
    torch.testing.assert_close(gradient, mean)


def test_the_ramp_switches_the_invariance_loss_on():
    objective = build(ramp="binary", ramp_epoch=2, weight=0.6)
    run(objective, range(1, 3))
    index = torch.arange(8)
    for epoch, factor in ((2, 0.0), (3, 0.6)):
        output = objective([index[:, None]], index, epoch)
        metrics = output["metrics"]
        expected = metrics["loss_instance"] + factor * metrics["loss_invariance"]
        assert metrics["loss_invariance"] > 0 and output["loss"].item() == pytest.approx(expected.item())


def test_without_hard_negatives_equals_all_rows():
    index = torch.arange(8)
    losses = []
    for options in ({"hard_negatives": False}, {"num_negatives": 0}, {"num_negatives": N}):
        objective = build(**options)
        assert objective.num_near == N
        run(objective, range(1, 3))
        losses.append(objective([index[:, None]], index, 3)["loss"].item())
    assert len(set(losses)) == 1
    assert build(num_negatives=12).num_near == 12


def test_a_search_in_16_bits_is_scored_again_in_32():
    exact, halved = build(num_negatives=20), build(num_negatives=20, search="fp16")
    assert run(halved, range(1, 5)) == pytest.approx(run(exact, range(1, 5)), rel=1e-4)
    torch.testing.assert_close(halved.bank, exact.bank, rtol=1e-4, atol=1e-5)
    assert (halved.table == exact.table).float().mean() > 0.99
    assert torch.equal(halved._half, halved.bank.half()), "every update of the bank reaches its copy"


def test_nearest_rows_as_positives_ignore_the_graph():
    objective = build(positives="knn", num_neighbours=6, num_negatives=2)
    run(objective, range(1, 3))
    objective.double()
    index = torch.arange(8)
    feature = torch.nn.functional.normalize(objective.encoder.rows[index].detach(), dim=1)
    output = objective([index[:, None]], index, 3)
    for i in range(8):
        s = reference.similarities(feature[i], objective.bank)
        positives = reference.neighbours(s, i, 6)
        background = reference.hard_negatives(s, set(positives), 2) | set(positives)
        expected = reference.invariance_loss(s, positives, background, 0.2)
        alone = objective([index[i : i + 1, None]], index[i : i + 1], 3)["metrics"]["loss_invariance"]
        assert alone.item() == pytest.approx(expected.item(), abs=1e-9)
    assert output["metrics"]["num_positives"] == 6


@pytest.mark.parametrize("num_samples", [2, 3])
@pytest.mark.parametrize("options", [{}, {"positives": "knn"}, {"graph": "epoch"}, {"num_negatives": 0}])
def test_sets_as_small_as_every_option_allows_train(num_samples, options):
    counts = {
        "k": num_samples - 1,
        "num_positives": num_samples - 1,
        "num_neighbours": num_samples - 1,
        "num_negatives": num_samples,
    }
    config = Config(**({"ramp": "constant"} | counts | options))
    objective = Objective(config, Given(), nn.Identity(), num_samples, seed=0)
    index = torch.arange(num_samples)
    for epoch in (1, 2):
        objective.begin_epoch(epoch, None)
        output = objective([index[:, None]], index, epoch)
        output["loss"].backward()
        objective.end_step(index, output["memory"])
    assert output["loss"].isfinite() and objective.encoder.rows.grad.isfinite().all()


def test_a_collapsed_batch_sits_at_the_uniform_loss():
    objective = build()
    with torch.no_grad():
        objective.encoder.rows[:] = objective.encoder.rows[0]
    objective.bank.copy_(torch.nn.functional.normalize(objective.encoder.rows.detach(), dim=1))
    metrics = objective([torch.arange(8)[:, None]], torch.arange(8), 1)["metrics"]
    assert metrics["loss_instance"].item() == pytest.approx(metrics["uniform_loss"].item(), abs=1e-5)
    assert metrics["uniform_loss"].item() == pytest.approx(math.log(12)) and metrics["feature_std"] < 1e-6


def test_the_preset_sets_the_authors_ways():
    config = build(official_compat=True).config
    assert (config.graph, config.union, config.background, config.eps) == ("lazy", False, "official", 1e-7)
    with pytest.raises(UserError, match="num_negatives must be at least 2"):
        build(official_compat=True, num_negatives=1)
