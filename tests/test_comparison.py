"""Tests over seeds and their correction, against other ways to get them."""

import math

import numpy as np
import pytest

from invp.pages.comparison import holm, read_outs, test_table, welch
from invp.pages.numbers import rows_of


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


def row(experiment, seed, value):
    return {"experiment": experiment, "seed": seed, "stage": 2, "source": "knn", "metric": "top1", "value": value}


def test_the_table_names_who_is_ahead():
    section = {"reference": "", "experiments": ["a", "b", "c"], "loaded": {n: {"stages": [2]} for n in "abc"}}
    values = {"a": [90.0, 90.1, 90.2], "b": [80.0, 80.1, 80.3], "c": [89.9, 90.2, 90.1]}
    html = test_table(section, [row(n, s, v) for n, found in values.items() for s, v in enumerate(found)], "knn.top1")
    lines = html.split("<tr>")
    assert "ahead" in lines[2] and "+9.967" in lines[2]
    assert "no difference shown" in lines[3]


test_table.__test__ = False


def test_seconds_are_those_from_the_beginning(tmp_path):
    inputs = []
    for stage, seconds in ((1, 2.0), (3, 5.0)):
        path = tmp_path / f"e/seed-0/pretrain/stage-{stage}/metrics.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(f'{{"epoch": {stage}, "seconds": {seconds}, "views": 10}}\n')
        inputs.append(("curves", path))
    rows = rows_of({"experiments": ["e"]}, inputs)
    assert [r["value"] for r in rows if r["metric"] == "seconds"] == [2.0, 7.0]


def test_read_outs_are_folded_over_seeds_and_splits():
    def metrics(name, seed, values):
        details = {"readouts": {"size": {"stem": [0.1, 0.1], "layer1.0": values}}}
        return {"experiment": name, "seed": seed, "stage": 5, "details": details}

    section = {"experiments": ["a", "b"], "reference": "a", "loaded": {n: {"stages": [5]} for n in "ab"}}
    numbers = {("a", 0): [0.5, 0.6], ("a", 1): [0.7, 0.8], ("b", 0): [0.1, 0.2], ("b", 1): [0.3, 0.2]}
    content = [metrics(*key, values) for key, values in numbers.items()]
    page = read_outs(section, content)
    assert "0.65 ± 0.13" in page and "0.20 ± 0.08" in page and "<h3>size</h3>" in page
    difference, _, _, p = welch([0.5, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.2])
    assert f"a {difference:+.2f}, p {p:.3g}" in page
    assert read_outs(section, [{**content[0], "details": {}}]) == ""
