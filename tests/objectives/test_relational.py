"""ReSSL and ISD: the loss and its gradient against loops and torch's divergence, its bounds, and options that are refused."""

import math

import pytest
import torch
import torch.nn.functional as F
from rivals import Given, images
from torch import nn

from invp.objectives.relational import Config, Objective
from invp.plumbing.errors import UserError

N, D, K, TAU, KEY_TAU = 12, 4, 7, 0.3, 0.2
FIRST, SECOND = (3, 8, 0), (4, 9, 1)


def build(**options) -> Objective:
    values = {"num_keys": K, "momentum": 0.9, "temperature": TAU, "key_temperature": KEY_TAU, "norm_group": 0}
    torch.manual_seed(0)  # of the predictor
    objective = Objective(Config(**(values | options)), Given(N, D), nn.Identity(), N, seed=3).double()
    with torch.no_grad():
        objective.encoder.rows += 0.5  # so that the momentum encoder differs
    return objective


def gradients(objective: Objective, loss: torch.Tensor) -> list:
    return list(torch.autograd.grad(loss, [parameter for parameter in objective.parameters() if parameter.requires_grad]))


def query(objective: Objective, number: int) -> torch.Tensor:
    row = objective.encoder.rows[number]
    if objective.config.predictor:
        first, _, _, last = objective.predictor
        row = last.weight @ (first.weight @ row + first.bias).clamp(min=0) + last.bias
    return row / row.norm()


@pytest.mark.parametrize("hidden", [0, 16])
def test_value_and_gradient_equal_loops_and_keys_take_no_gradient(hidden):
    objective = build(predictor=hidden)
    output = objective([images(*FIRST), images(*SECOND)], torch.tensor(FIRST), 1)
    losses = []
    for seen, other in zip(FIRST, SECOND, strict=True):
        u, v = query(objective, seen), objective.key.encoder.rows[other]
        student = [torch.exp(u @ row / TAU) for row in objective.queue]
        teacher = [torch.exp(v / v.norm() @ row / KEY_TAU).detach() for row in objective.queue]
        losses.append(-sum(t / sum(teacher) * torch.log(s / sum(student)) for t, s in zip(teacher, student, strict=True)))
    expected = sum(losses) / 3
    torch.testing.assert_close(output["loss"], expected)
    ours = gradients(objective, output["loss"])
    for mine, theirs in zip(ours, gradients(objective, expected), strict=True):
        torch.testing.assert_close(mine, theirs)
        assert mine.abs().max() > 0
    assert (ours[0][list(SECOND)] == 0).all()
    assert output["metrics"]["uniform_loss"].item() == pytest.approx(math.log(K))


def test_it_is_the_divergence_of_isd_and_the_entropy_of_the_target():
    objective = build(predictor=16, temperature=TAU, key_temperature=TAU)
    loss = objective([images(*FIRST), images(*SECOND)], torch.tensor(FIRST), 1)["loss"]
    queries = torch.stack([query(objective, number) for number in FIRST])
    student = (queries @ objective.queue.T / TAU).log_softmax(1)
    target = (objective.key(images(*SECOND)) @ objective.queue.T / TAU).softmax(1)
    divergence = F.kl_div(student, target, reduction="batchmean")
    torch.testing.assert_close(loss, divergence + torch.special.entr(target).sum(1).mean())
    for mine, theirs in zip(gradients(objective, loss), gradients(objective, divergence), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_loss_is_the_targets_entropy_for_equal_views_and_that_of_a_guess_for_equal_keys():
    objective = build(temperature=TAU, key_temperature=TAU)
    with torch.no_grad():
        objective.encoder.rows.copy_(objective.key.encoder.rows)
    views = [images(*FIRST), images(*FIRST)]
    loss = objective(views, torch.tensor(FIRST), 1)["loss"]
    target = (objective.key(views[0]) @ objective.queue.T / TAU).softmax(1)
    torch.testing.assert_close(loss, torch.special.entr(target).sum(1).mean())
    assert gradients(objective, loss)[0].abs().max() < 1e-12
    objective.queue.copy_(objective.queue[:1].expand(K, D).clone())  # a collapse
    output = objective(views, torch.tensor(FIRST), 1)
    torch.testing.assert_close(output["metrics"]["loss_instance"], output["metrics"]["uniform_loss"])


def test_the_batch_is_compared_with_earlier_keys_alone_and_then_joins_them():
    objective, index = build(), torch.tensor(FIRST)
    before = objective.queue.clone()
    keys = objective.key(images(*SECOND))
    memory = objective([images(*FIRST), images(*SECOND)], index, 1)["memory"]
    assert torch.equal(objective.queue, before)
    objective.end_step(index, memory)
    assert torch.equal(objective.queue[:3], keys)
    assert torch.equal(objective.queue[3:], before[3:]) and objective.pointer == 3


def test_a_target_flatter_than_the_prediction_is_refused():
    with pytest.raises(UserError, match=r"key_temperature must be at most temperature \(0.3\), and is 0.4"):
        build(key_temperature=0.4)
