"""Tests over seeds and their correction, against other ways to get them."""

import math

import numpy as np
import pytest

from invp.pages.comparison import against_reference, holm, readouts, welch
from invp.pages.numbers import Number, Numbers
from invp.plumbing.metrics import PERCENT, Metric


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


def test_one_seed_or_no_spread_is_not_testable():
    assert math.isnan(welch([1.0], [2.0, 3.0])[3])
    assert math.isnan(welch([1.0, 1.0], [2.0, 2.0])[3])


def test_holm_by_hand():
    assert holm([0.01, 0.04, math.nan, 0.03]) == pytest.approx([0.03, 0.06, math.nan, 0.06], nan_ok=True)


def test_the_table_names_who_is_ahead():
    section = {"reference": "", "experiments": ["a", "b", "c", "d"], "loaded": {n: {"stages": [1, 2]} for n in "abcd"}}
    scores = {"a": [90.0, 90.1, 90.2], "b": [80.0, 80.1, 80.3], "c": [89.9, 90.2, 90.1], "d": [99.0]}
    numbers = Numbers(
        [Number(n, s, 2, "knn", "top1", v) for n, values in scores.items() for s, v in enumerate(values)], {"knn.top1": PERCENT}
    )
    tests = against_reference(section, numbers, "knn.top1")
    assert (tests["reference"], tests["score"]) == ("a", "90.10 ± 0.10")
    ahead, same, untested = tests["table"].rows
    assert ahead[:3] == ["b", "80.13 ± 0.15", "+9.967"] and ahead[-1] == "ahead"
    assert same[0] == "c" and same[-1] == "no difference shown"
    assert untested == ["d", "99", "-8.900", "-", "-", "-", "not testable"]
    assert against_reference(section, numbers, "knn.top5") is None


def test_ahead_is_less_where_less_is_better_and_other_data_sets_are_left_out():
    section = {"reference": "", "experiments": ["a", "b", "c"], "loaded": {n: {"stages": [2]} for n in "abc"}}
    scores = {"a": [0.20, 0.21, 0.22], "b": [0.60, 0.61, 0.63], "c": [0.9, 0.91, 0.92]}
    rows = [Number(n, s, 2, "statistics", "overlap", v) for n, values in scores.items() for s, v in enumerate(values)]
    data = {("a", "statistics"): "digits", ("b", "statistics"): "digits", ("c", "statistics"): "cifar10"}
    tests = against_reference(section, Numbers(rows, {"statistics.overlap": Metric("share", "lower")}, data), "statistics.overlap")
    assert [(row[0], row[-1]) for row in tests["table"].rows] == [("b", "ahead")]


def test_readouts_are_over_seeds_and_splits():
    def metrics(name, seed, values):
        details = {"readouts": {"size": {"stem": [0.1, 0.1], "layer1.0": values}}}
        return {"experiment": name, "seed": seed, "stage": 5, "details": details}

    section = {"experiments": ["a", "b"], "reference": "a", "loaded": {n: {"stages": [5]} for n in "ab"}}
    numbers = {("a", 0): [0.5, 0.6], ("a", 1): [0.7, 0.8], ("b", 0): [0.1, 0.2], ("b", 1): [0.3, 0.2]}
    content = [metrics(*key, values) for key, values in numbers.items()]
    (size,) = readouts(section, content)
    difference, _, _, p = welch([0.5, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.2])
    assert size["task"] == "size" and size["table"].header == [
        "experiment",
        "stem",
        "layer1.0",
        "t-test at the last layer",
        "p, Holm",
    ]
    assert size["table"].rows == [
        ["a", "0.10 ± 0.00", "0.65 ± 0.13", "reference", "-"],
        ["b", "0.10 ± 0.00", "0.20 ± 0.08", f"a {difference:+.2f}, p {p:.3g}", f"{p:.3g}"],
    ]
    assert list(readouts(section, [{**content[0], "details": {}}])) == []


def test_a_layer_that_a_network_lacks_is_not_compared():
    section = {"experiments": ["a", "b"], "reference": "a", "loaded": {n: {"stages": [5]} for n in "ab"}}
    layers = {"a": {"stem": [0.1, 0.3], "layer1": [0.5, 0.7]}, "b": {"stem": [0.1, 0.3]}}
    content = [{"experiment": n, "seed": 0, "stage": 5, "details": {"readouts": {"size": v}}} for n, v in layers.items()]
    (size,) = readouts(section, content)
    assert size["table"].rows[1] == ["b", "0.20 ± 0.14", "-", "-", "-"]
