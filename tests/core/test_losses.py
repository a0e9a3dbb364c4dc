"""Equations 4 to 7 against plain loops in float64, with derivatives by central differences."""

import math

import pytest
import torch

from invp.core.losses import attach_gradient, instance_loss, invariance_loss, noise_contrastive_loss, ramp

STEP = 1e-6


def difference(function, values: list[float], i: int) -> float:
    """The derivative of function(values) by values[i], by a central difference."""
    up, down = values.copy(), values.copy()
    up[i] += STEP
    down[i] -= STEP
    return (function(up) - function(down)) / (2 * STEP)


def check(loss, derivatives, function, values):
    """A loss and its derivatives by `values` against a function of one list."""
    assert loss.item() == pytest.approx(function(values), rel=1e-10, abs=1e-12)
    for i, derivative in enumerate(derivatives.tolist()):
        assert derivative == pytest.approx(difference(function, values, i), rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("eps", [0.0, 1e-7, 0.3])
@pytest.mark.parametrize("width", [1, 6])
def test_instance_loss(eps, width):
    own, near, tau = torch.randn(4).double(), torch.randn(4, width).double(), 0.3
    terms = instance_loss(own, near, tau, eps)

    def literal(values: list[float]) -> float:
        terms = [math.exp(x / tau) for x in values]
        return -math.log(terms[0] / sum(terms[1:]) + eps)

    for i in range(4):
        derivatives = torch.cat([terms.by_own[i, None], terms.by_near[i]])
        check(terms.loss[i], derivatives, literal, [own[i].item(), *near[i].tolist()])


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
    official = background == "official"
    terms = invariance_loss(
        hard,
        hard_mask,
        near,
        None if background == "approximate" else near_mask,
        tau,
        with_hard=background == "exact",
        subtract=own if official else None,
        eps=eps,
    )
    for i in range(5):
        uses = torch.ones(6).bool() if background == "approximate" else near_mask[i]

        def literal(values: list[float], i: int = i, uses: torch.Tensor = uses) -> float:
            positive = sum(math.exp(x / tau) for x, m in zip(values[:3], hard_mask[i].tolist(), strict=True) if m)
            below = sum(math.exp(x / tau) for x, m in zip(values[3:9], uses.tolist(), strict=True) if m)
            if background == "exact":
                below += positive
            if official:
                below -= math.exp(values[9] / tau)
            return -math.log(positive / below + eps) if positive else 0.0

        derivatives = torch.cat([terms.by_hard[i], terms.by_near[i], terms.by_own[i, None]])
        check(terms.loss[i], derivatives, literal, [*hard[i].tolist(), *near[i].tolist(), own[i].item()])


def test_a_background_of_the_hard_positives_alone_costs_nothing():
    hard = torch.randn(2, 3).double()
    terms = invariance_loss(hard, torch.ones(2, 3).bool(), hard, torch.zeros(2, 3).bool(), 0.1)
    torch.testing.assert_close(terms.loss, torch.zeros(2).double())
    assert terms.by_hard.abs().max() < 1e-12 and terms.by_near.abs().max() == 0


@pytest.mark.parametrize("per_anchor", [True, False])
def test_noise_contrastive_loss(per_anchor):
    own, noise, tau, num_samples = torch.randn(4).double(), torch.randn(4, 5).double(), 0.4, 70
    log_partition = torch.randn(4).double() if per_anchor else torch.tensor(1.3).double()
    terms = noise_contrastive_loss(own, noise, log_partition, num_samples, tau)
    for i in range(4):
        z = math.exp(log_partition[i] if per_anchor else log_partition)

        def literal(values: list[float], z: float = z) -> float:
            probability = [math.exp(x / tau) / z for x in values]
            from_data = [p / (p + 5 / num_samples) for p in probability]
            return -math.log(from_data[0]) - sum(math.log(1 - h) for h in from_data[1:])

        derivatives = torch.cat([terms.by_own[i, None], terms.by_near[i]])
        check(terms.loss[i], derivatives, literal, [own[i].item(), *noise[i].tolist()])


def test_small_temperatures_neither_overflow_nor_vanish():
    own, near = torch.tensor([-1.0]), torch.tensor([[1.0, 0.9]])
    terms = instance_loss(own, near, 0.01)
    assert terms.loss.item() == pytest.approx(200, rel=1e-4) and terms.by_near.isfinite().all()
    terms = invariance_loss(own[:, None], torch.ones(1, 1).bool(), near, None, 0.01, with_hard=False)
    assert terms.loss.item() == pytest.approx(200, rel=1e-4)
    assert terms.by_hard.item() == pytest.approx(-100)


def test_ramps():
    assert [ramp("binary", t, 30) for t in (1, 30, 31, 799)] == [0, 0, 1, 1]
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
