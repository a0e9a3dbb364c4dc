"""Colours, their bins, soft targets and weights, against loops in float64."""

import math

import pytest
import torch
from kornia.color import rgb_to_lab

from invp.core import colour
from invp.core.colour import ab_centres, annealed_mean, class_weights, lab, rgb, soft_bins, soft_cross_entropy

GENERATOR = torch.Generator().manual_seed(0)


def plain_lab(red: float, green: float, blue: float) -> tuple[float, float, float]:
    """CIE Lab of one colour of sRGB by its definition: D65, two degrees."""
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (red, green, blue)]
    to_xyz = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
    xyz = [sum(c * v for c, v in zip(row, linear, strict=True)) for row in to_xyz]
    x, y, z = (
        t ** (1 / 3) if (t := v / white) > 0.008856 else 7.787 * t + 16 / 116
        for v, white in zip(xyz, (0.95047, 1.0, 1.08883), strict=True)
    )
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def test_lab_is_that_of_the_definition_and_comes_back():
    pixels = torch.rand(2, 3, 4, 5, generator=GENERATOR)
    pixels[0, :, 0, :3] = torch.tensor([[1.0, 0.0, 0.02], [1.0, 0.0, 0.01], [1.0, 0.0, 0.03]])  # white, black, nearly black
    values = lab(pixels)
    for b in range(2):
        for y in range(4):
            for x in range(5):
                expected = torch.tensor(plain_lab(*pixels[b, :, y, x].double().tolist()), dtype=torch.float32)
                torch.testing.assert_close(values[b, :, y, x], expected, rtol=1e-4, atol=2e-3)
    torch.testing.assert_close(values[0, :, 0, 0], torch.tensor([100.0, 0.0, 0.0]), rtol=1e-4, atol=2e-2)
    torch.testing.assert_close(rgb(values), pixels, rtol=1e-4, atol=1e-4)


def test_a_colour_beyond_srgb_is_clamped():
    shown = rgb(torch.tensor([50.0, 120.0, -120.0])[None, :, None, None])
    assert shown.min() == 0 and shown.max() <= 1


def test_the_261_bins_are_the_squares_that_some_colour_falls_into():
    centres = ab_centres()
    assert centres.shape == (261, 2) and torch.equal(centres, 10 * (centres / 10).round())
    assert len({tuple(row) for row in centres.tolist()}) == 261
    bins = {tuple(row) for row in centres.tolist()}
    level = torch.linspace(0, 1, 40, dtype=torch.float64)
    seen = set()
    for red in level:  # the whole of sRGB, at fewer levels: some bins are touched by little of it
        block = torch.cartesian_prod(red[None], level, level)
        ab = rgb_to_lab(block.T[:, :, None])[1:, :, 0].T
        seen |= {(10.0 * math.floor(a / 10 + 0.5), 10.0 * math.floor(b / 10 + 0.5)) for a, b in ab.tolist()}
    assert seen <= bins and len(bins - seen) < 8
    centres[0] = 0  # a caller may write into what it got
    assert len({tuple(row) for row in ab_centres().tolist()}) == 261


def test_more_levels_find_no_more_bins(monkeypatch):
    monkeypatch.setattr(colour, "LEVELS", 256)
    assert torch.equal(colour._touched_bins.__wrapped__(), ab_centres())


@pytest.mark.parametrize(("count", "sigma"), [(10, 5.0), (1, 5.0), (5, 8.0)])
def test_soft_bins_equal_loops(count, sigma):
    centres = ab_centres().double()
    ab = 40 * torch.randn(2, 2, 3, 4, generator=GENERATOR).double()
    bins, shares = soft_bins(ab, centres, count, sigma)
    assert bins.shape == shares.shape == (2, count, 3, 4)
    for b in range(2):
        for y in range(3):
            for x in range(4):
                squared = [sum((ab[b, c, y, x].item() - row[c]) ** 2 for c in (0, 1)) for row in centres.tolist()]
                order = sorted(range(261), key=squared.__getitem__)[:count]
                raw = [math.exp(-squared[q] / (2 * sigma**2)) for q in order]
                assert bins[b, :, y, x].tolist() == order
                torch.testing.assert_close(shares[b, :, y, x], torch.tensor(raw).double() / sum(raw), rtol=1e-6, atol=1e-9)


def test_the_target_of_a_centre_peaks_there_and_one_far_away_is_still_a_distribution():
    centres = ab_centres()
    bins, shares = soft_bins(centres.T[None, :, None], centres)
    assert torch.equal(bins[0, 0, 0], torch.arange(261)) and (shares[0, 0, 0] > shares[0, 1, 0]).all()
    far = soft_bins(torch.full((1, 2, 1, 1), 1000.0), centres)[1]
    torch.testing.assert_close(far.sum(1), torch.ones(1, 1, 1))


def test_cross_entropy_of_soft_targets_equals_loops_with_its_gradient():
    centres = ab_centres().double()
    bins, shares = soft_bins(40 * torch.randn(2, 2, 2, 3, generator=GENERATOR).double(), centres)
    logits = torch.randn(2, 261, 2, 3, generator=GENERATOR, dtype=torch.float64, requires_grad=True)
    ours, expected = soft_cross_entropy(logits, bins, shares), []
    for b in range(2):
        for y in range(2):
            for x in range(3):
                z = torch.zeros(261, dtype=torch.float64)
                for q, share in zip(bins[b, :, y, x], shares[b, :, y, x], strict=True):
                    z[q] += share
                p = logits[b, :, y, x].exp() / logits[b, :, y, x].exp().sum()
                expected.append(-(z * p.log()).sum())
    torch.testing.assert_close(ours.flatten(), torch.stack(expected))
    gradients = [torch.autograd.grad(value.sum(), logits)[0] for value in (ours, torch.stack(expected))]
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(
        soft_cross_entropy(torch.zeros(2, 261, 2, 3), bins, shares.float()), torch.full((2, 2, 3), math.log(261))
    )


def test_weights_equal_loops_and_are_one_for_equal_shares_or_without_rebalancing():
    shares = torch.rand(7, generator=GENERATOR).double()
    shares[2] = 0
    shares /= shares.sum()
    raised = [1 / (0.5 * p + 0.5 / 7) for p in shares.tolist()]
    mean = sum(p * u for p, u in zip(shares.tolist(), raised, strict=True))
    found = class_weights(shares, 0.5)
    torch.testing.assert_close(found, torch.tensor([u / mean for u in raised]).double(), rtol=1e-6, atol=0)
    torch.testing.assert_close((shares * found).sum(), torch.tensor(1.0).double())
    assert found.argmax() == 2 and found.isfinite().all()
    torch.testing.assert_close(class_weights(shares, 1.0), torch.ones(7).double())
    torch.testing.assert_close(class_weights(torch.full((7,), 1 / 7), 0.3), torch.ones(7))


def test_the_annealed_mean_lies_between_mean_and_mode():
    centres = ab_centres()
    logits = torch.randn(2, 261, 3, 1, generator=GENERATOR)
    mean = torch.einsum("bqhw,qc->bchw", logits.softmax(1), centres)
    torch.testing.assert_close(annealed_mean(logits, centres, 1.0), mean)
    mode = centres[logits.argmax(1)].movedim(3, 1)
    torch.testing.assert_close(annealed_mean(logits, centres, 1e-4), mode, rtol=0, atol=1e-2)
    p = logits[0, :, 0, 0].softmax(0) ** (1 / 0.38)
    torch.testing.assert_close(annealed_mean(logits, centres, 0.38)[0, :, 0, 0], (p[:, None] * centres).sum(0) / p.sum())
