"""Instance discrimination against invp.core.reference and, with noise, plain loops; autograd gives their gradients."""

import math

import pytest
import torch
from torch import nn

from invp.core import reference
from invp.core.selection import hashed_indices
from invp.objectives import invp
from invp.objectives.instance_discrimination import LOSSES, Config, Objective
from invp.plumbing.errors import UserError

N, D, TAU = 30, 4, 0.3


class Given(nn.Module):
    """An encoder whose features are its parameters."""

    num_features = D

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.Parameter(torch.randn(N, D, generator=torch.Generator().manual_seed(1)))

    def forward(self, x):
        return self.rows[x.flatten().long()]


def build(loss: str, num_negatives: int = 7) -> Objective:
    config = Config(loss=loss, num_negatives=num_negatives, temperature=TAU)
    return Objective(config, Given(), nn.Identity(), N, seed=3).double()


def literal(objective: Objective, rows: torch.Tensor, index: torch.Tensor, epoch: int, partition) -> torch.Tensor:
    """The mean loss as written in the papers, under autograd. topm and full are equation (6) of InvP."""
    config, losses = objective.config, []
    noise = hashed_indices(index, config.num_negatives, N, seed=3, epoch=epoch) if config.num_negatives else None
    for i, own in enumerate(index.tolist()):
        feature = rows[own] / rows[own].norm()
        s = reference.similarities(feature, objective.bank)
        if config.loss in ("topm", "full"):
            count = config.num_negatives if config.loss == "topm" and config.num_negatives else N
            losses.append(reference.instance_loss(s, own, reference.nearest(s, count), TAU))
            continue
        term = [torch.exp(x / TAU) for x in s]
        if config.loss == "nce":
            m = config.num_negatives
            drawn = [term[j] for j in noise[i].tolist()]
            z = partition if partition is not None else (sum(drawn) + term[own]).detach() * N / (m + 1)
            h = [t / z / (t / z + m / N) for t in [term[own], *drawn]]
            losses.append(-torch.log(h[0]) - sum(torch.log(1 - x) for x in h[1:]))
            continue
        below = term[own] + sum(term[j] for j in noise[i].tolist())
        losses.append(-torch.log(term[own] / below))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("num_negatives", [7, 100, 0])
def test_values_and_gradients(loss, num_negatives):
    if loss in ("nce", "infonce") and num_negatives == 0:
        with pytest.raises(UserError, match="num_negatives is 0; valid with loss"):
            build(loss, num_negatives)
        return
    if loss == "topm" and num_negatives > N:
        with pytest.raises(UserError, match="num_negatives must be at most 30, the number of images, or 0 for all"):
            build(loss, num_negatives)
        return
    objective, partition = build(loss, num_negatives), None
    rows = objective.encoder.rows
    for epoch, index in ((1, [3, 29, 0]), (1, [5, 5, 6]), (2, [3, 8, 9])):
        index = torch.tensor(index)
        output = objective([index[:, None]], index, epoch)
        expected = literal(objective, rows, index, epoch, partition)
        torch.testing.assert_close(output["loss"], expected)
        ours, theirs = torch.autograd.grad(output["loss"], rows)[0], torch.autograd.grad(expected, rows)[0]
        torch.testing.assert_close(ours, theirs)
        objective.end_step(index, output["memory"])
        if loss == "nce" and partition is None:
            partition = torch.exp(objective.log_partition)
            assert partition > 0
    if loss == "nce":
        assert torch.exp(objective.log_partition) == partition  # fixed by the first batch


def test_top_m_equals_invp_without_its_second_term():
    mine = build("topm", 7)
    theirs = invp.Objective(invp.Config(num_negatives=7, temperature=TAU, weight=0), Given(), nn.Identity(), N, seed=3)
    theirs = theirs.double()
    for epoch in range(1, 4):
        for index in torch.randperm(N, generator=torch.Generator().manual_seed(epoch)).split(10):
            outputs = [objective([index[:, None]], index, epoch) for objective in (mine, theirs)]
            gradients = [
                torch.autograd.grad(output["loss"], objective.encoder.rows)[0]
                for output, objective in zip(outputs, (mine, theirs), strict=True)
            ]
            torch.testing.assert_close(gradients[0], gradients[1])
            for objective, output in zip((mine, theirs), outputs, strict=True):
                objective.end_step(index, output["memory"])
    assert torch.equal(mine.bank, theirs.bank)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_in_parts_gives_the_same_and_global_random_state_plays_no_part(loss):
    whole, parts = build(loss), build(loss)
    for step in range(3):
        index = torch.tensor([4, 9, 30 - 1, 2]) - step
        one = whole([index[:, None]], index, 1)
        torch.manual_seed(step)
        two = [parts([part[:, None]], part, 1) for part in index.split(2)]
        torch.testing.assert_close(one["loss"], (two[0]["loss"] + two[1]["loss"]) / 2)
        whole.end_step(index, one["memory"])
        parts.end_step(index, {name: torch.cat([p["memory"][name] for p in two]) for name in one["memory"]})
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(value, parts.state_dict()[name], equal_nan=True)


@pytest.mark.parametrize("loss", LOSSES)
def test_uniform_loss_is_that_of_equal_features(loss):
    objective = build(loss, 12)
    with torch.no_grad():
        objective.encoder.rows[:] = objective.encoder.rows[0]
    objective.bank.copy_(objective.encoder.rows / objective.encoder.rows.norm(dim=1, keepdim=True))
    metrics = objective([torch.arange(8)[:, None]], torch.arange(8), 1)["metrics"]
    assert metrics["loss_instance"].item() == pytest.approx(metrics["uniform_loss"].item(), rel=1e-6)


def test_first_step_of_nce_estimates_z_from_the_samples():
    objective = build("nce", 25)
    index = torch.arange(N)
    assert math.isnan(objective.log_partition.item())
    objective.end_step(index, objective([index[:, None]], index, 1)["memory"])
    rows = objective.encoder.rows / objective.encoder.rows.norm(dim=1, keepdim=True)
    fresh = build("nce", 25)
    exact = torch.exp(rows @ fresh.bank.T / TAU).sum(1).mean().log()
    assert objective.log_partition.item() == pytest.approx(exact.item(), abs=0.15)
