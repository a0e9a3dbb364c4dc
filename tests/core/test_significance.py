"""Intervals, tests and their correction, against other ways to get them."""

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import binomtest

from invp.core.significance import decimals_of_share, holm, mcnemar, welch, wilson


@pytest.mark.parametrize("images", [1, 37, 360])
def test_wilsons_interval_equals_scipys(images):
    for right in range(0, images + 1, max(1, images // 40)):
        expected = binomtest(right, images).proportion_ci(method="wilson")
        assert wilson(right / images, images) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilsons_interval_by_hand():
    # 5 of 10: z^2 = 3.8415; (0.5 + 0.19207 -+ 1.96 sqrt(0.025 + 0.0096036)) / 1.38415
    assert wilson(0.5, 10) == pytest.approx((0.23659, 0.76341), abs=1e-5)
    assert wilson(0.0, 37)[0] == 0 and wilson(1.0, 37)[1] == 1, "it stays among the shares"


def test_mcnemar_equals_the_binomial_distribution_in_whole_numbers():
    for first in range(12):
        for second in range(12):
            total, fewer = first + second, min(first, second)
            expected = min(Fraction(1), 2 * Fraction(sum(math.comb(total, i) for i in range(fewer + 1)), 2**total))
            assert mcnemar(first, second) == pytest.approx(float(expected), rel=1e-12)
            assert not total or mcnemar(first, second) == pytest.approx(binomtest(first, total).pvalue)


def test_mcnemar_by_hand():
    assert mcnemar(0, 0) == 1, "two that answer alike"
    assert mcnemar(1, 5) == pytest.approx(2 * 7 / 64), "of 64 ways 1 has none of six, and 6 have one"
    assert mcnemar(30_000, 30_000) == 1 and mcnemar(0, 60_000) == 0


def test_welch_by_hand():
    ours, theirs = [97.0, 98.0, 99.5], [95.0, 95.5, 97.0, 96.0]
    difference, low, high, p = welch(ours, theirs)
    a, b = (np.var(v, ddof=1) / len(v) for v in (ours, theirs))
    freedom = (a + b) ** 2 / (a**2 / 2 + b**2 / 3)
    assert difference == pytest.approx(np.mean(ours) - np.mean(theirs))
    assert (low + high) / 2 == pytest.approx(difference)
    # The p by numeric integration of Student's density.
    t = difference / math.sqrt(a + b)
    x = np.linspace(t, 2000, 2_000_001)
    constant = math.gamma((freedom + 1) / 2) / (math.sqrt(freedom * math.pi) * math.gamma(freedom / 2))
    assert p == pytest.approx(2 * np.trapezoid(constant * (1 + x**2 / freedom) ** (-(freedom + 1) / 2), x), rel=1e-3)


def test_one_seed_or_no_spread_has_no_welch_test():
    assert math.isnan(welch([1.0], [2.0, 3.0])[3])
    assert math.isnan(welch([1.0, 1.0], [2.0, 2.0])[3])


def test_holm_by_hand():
    assert holm([0.01, 0.04, math.nan, 0.03]) == pytest.approx([0.03, 0.06, math.nan, 0.06], nan_ok=True)


@pytest.mark.parametrize(
    ("images", "decimals"), [(1, 1), (37, 1), (100, 1), (101, 1), (360, 1), (1000, 1), (1001, 2), (10_000, 2), (50_000, 2), (10**7, 2)]
)  # fmt: skip
def test_an_accuracy_has_the_decimals_that_n_supports(images, decimals):
    assert decimals_of_share(images) == decimals
    texts = {f"{100 * right / images:.{decimals}f}" for right in range(min(images, 200) + 1)}
    assert images > 10_000 or len(texts) == min(images, 200) + 1, "one image more is another text"
    assert decimals == 1 or 100 / images < 10 ** (1 - decimals), "with one less it would not be"
    assert f"{100:.{decimals}f}".startswith("100.0"), "a whole number keeps a decimal"
