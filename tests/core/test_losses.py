"""Equations 4 to 7 against invp.core.reference in float64, derivatives against autograd of it."""

import math

import pytest
import torch
from torch import Tensor

from invp.core import reference
from invp.core.losses import attach_gradient, exponentials, instance_loss, invariance_loss, noise_contrastive_loss, ramp


def check(loss: Tensor, derivatives: Tensor, expected: Tensor, s: Tensor) -> None:
    """An anchor's loss and its derivatives by the similarities s against the expected loss, which autograd derives."""
    assert loss.item() == pytest.approx(expected.item(), rel=1e-10, abs=1e-12)
    (by_s,) = torch.autograd.grad(expected + 0 * s.sum(), s)
    torch.testing.assert_close(derivatives, by_s, rtol=1e-9, atol=1e-12)


def add_eps(loss: Tensor, eps: float) -> Tensor:
    """-log(ratio + eps) of a loss -log ratio."""
    return -torch.log(torch.exp(-loss) + eps)


@pytest.mark.parametrize("eps", [0.0, 1e-7, 0.3])
@pytest.mark.parametrize("width", [1, 6])
def test_instance_loss(eps, width):
    own, near, tau = torch.randn(4).double(), torch.randn(4, width).double(), 0.3
    terms = instance_loss(own, exponentials(near, tau), tau, eps)
    for i in range(4):
        s = torch.cat([own[i, None], near[i]]).requires_grad_()
        expected = add_eps(reference.instance_loss(s, 0, range(1, width + 1), tau), eps)
        check(terms.loss[i], torch.cat([terms.by_own[i, None], terms.by_near[i]]), expected, s)


@pytest.mark.parametrize("eps", [0.0, 1e-7, 0.3])
@pytest.mark.parametrize("background", ["exact", "approximate", "official"])
def test_invariance_loss(eps, background):
    generator = torch.Generator().manual_seed(1)
    hard = torch.randn(5, 3, dtype=torch.float64, generator=generator)
    near = torch.randn(5, 6, dtype=torch.float64, generator=generator) + 1
    own = torch.randn(5, dtype=torch.float64, generator=generator) - 2
    hard_mask = torch.tensor([[1, 1, 1], [1, 0, 1], [0, 0, 1], [1, 1, 0], [0, 0, 0]]).bool()
    near_mask = torch.rand(5, 6, generator=generator) < 0.6
    near_mask[:, 0] = True
    tau = 0.5
    terms = invariance_loss(
        hard.masked_fill(~hard_mask, -torch.inf),
        exponentials(near if background == "approximate" else near.masked_fill(~near_mask, -torch.inf), tau),
        tau,
        with_hard=background == "exact",
        subtract=own if background == "official" else None,
        eps=eps,
    )
    for i in range(5):
        # Rows 0 to 2 are the hard positives, 3 to 8 the nearest rows, 9 the anchor's own.
        s = torch.cat([hard[i], near[i], own[i, None]]).requires_grad_()
        N_h = hard_mask[i].nonzero()[:, 0].tolist()
        rows = range(3, 9) if background == "approximate" else (near_mask[i].nonzero()[:, 0] + 3).tolist()
        if background == "exact":
            rows += N_h
        expected = s.new_zeros(())
        if background == "official" and N_h:
            below = reference.set_probability(rows, s, tau) - reference.set_probability([9], s, tau)
            expected = add_eps(-torch.log(reference.set_probability(N_h, s, tau) / below), eps)
        elif N_h:
            expected = add_eps(reference.invariance_loss(s, N_h, rows, tau), eps)
        check(terms.loss[i], torch.cat([terms.by_hard[i], terms.by_near[i], terms.by_own[i, None]]), expected, s)


def test_a_background_of_the_hard_positives_alone_costs_nothing():
    hard = torch.randn(2, 3).double()
    terms = invariance_loss(hard, exponentials(torch.full_like(hard, -torch.inf), 0.1), 0.1)
    torch.testing.assert_close(terms.loss, torch.zeros(2).double())
    assert terms.by_hard.abs().max() < 1e-12 and terms.by_near.abs().max() == 0


def test_a_diverged_feature_stays_visible():
    hard = torch.tensor([[torch.nan, torch.nan], [-torch.inf, -torch.inf]])
    assert invariance_loss(hard, exponentials(torch.rand(2, 3), 0.1), 0.1).loss.isnan().tolist() == [True, False]


@pytest.mark.parametrize("per_anchor", [True, False])
def test_noise_contrastive_loss(per_anchor):
    own, noise, tau, num_samples = torch.randn(4).double(), torch.randn(4, 5).double(), 0.4, 70
    log_partition = torch.randn(4).double() if per_anchor else torch.tensor(1.3).double()
    terms = noise_contrastive_loss(own, noise, log_partition, num_samples, tau)
    for i in range(4):
        s = torch.cat([own[i, None], noise[i]]).requires_grad_()
        p = torch.exp(s / tau) / math.exp(log_partition[i] if per_anchor else log_partition)
        h = p / (p + 5 / num_samples)
        expected = -torch.log(h[0]) - torch.log(1 - h[1:]).sum()
        check(terms.loss[i], torch.cat([terms.by_own[i, None], terms.by_near[i]]), expected, s)


def test_small_temperatures_neither_overflow_nor_vanish():
    own, near = torch.tensor([-1.0]), torch.tensor([[1.0, 0.9]])
    terms = instance_loss(own, exponentials(near, 0.01), 0.01)
    assert terms.loss.item() == pytest.approx(200, rel=1e-4) and terms.by_near.isfinite().all()
    terms = invariance_loss(own[:, None], exponentials(near, 0.01), 0.01, with_hard=False)
    assert terms.loss.item() == pytest.approx(200, rel=1e-4)
    assert terms.by_hard.item() == pytest.approx(-100)


def test_ramps():
    epochs = (1, 30, 31, 799)
    assert [ramp("binary", t, 30) for t in epochs] == [reference.ramp(t, 30) for t in epochs] == [0, 0, 1, 1]
    assert [ramp("constant", t, 30) for t in (1, 40)] == [1, 1]
    for t in (1, 15, 29):
        assert ramp("gaussian", t, 30) == pytest.approx(math.exp(-5 * (1 - t / 30) ** 2))
    assert [ramp("gaussian", t, 30) for t in (30, 31, 100)] == [1, 1, 1]
    assert ramp("gaussian", 1, 0) == 1 and ramp("binary", 1, 0) == 1


def test_attached_gradient_is_scaled_by_what_comes_after():
    features, gradient = torch.randn(3, 2, requires_grad=True), torch.randn(3, 2)
    loss = attach_gradient(features, torch.tensor(1.5), gradient)
    assert loss.item() == 1.5
    (4 * loss).backward()
    torch.testing.assert_close(features.grad, 4 * gradient)
