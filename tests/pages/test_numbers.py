"""The numbers of a study, and how their mean and deviation over seeds are written."""

import math

import pytest

from invp.pages.numbers import Number, Numbers, estimate_of, read_numbers


def test_seconds_are_those_from_the_beginning(tmp_path):
    paths = []
    for stage, seconds in ((3, 5.0), (1, 2.0)):
        path = tmp_path / f"e/seed-0/pretrain/stage-{stage}/metrics.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text(f'{{"epoch": {stage}, "seconds": {seconds}, "views": 10}}\n' * 2)
        paths.append(path)
    numbers = read_numbers({"experiments": ["e"], "loaded": {"e": {"dataset": "digits"}}}, {"curves": paths})
    assert [(row.stage, row.value) for row in numbers.rows if row.metric == "seconds"] == [(1, 4.0), (3, 14.0)]
    assert numbers.values("e", 3, "training.views") == [10], "the last epoch's"


def test_the_estimate_is_over_the_seeds_of_one_stage():
    rows = [Number("e", seed, stage, "knn", "top1", value) for seed, stage, value in ((0, 1, 7.0), (0, 2, 1.0), (1, 2, 3.0))]
    numbers = Numbers(rows)
    assert numbers.estimate("e", 2, "knn.top1") == (2.0, pytest.approx(math.sqrt(2)), 2)
    assert numbers.estimate("e", 3, "knn.top1") is None and numbers.estimate("f", 2, "knn.top1") is None


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([98.333], "98.33"), ([98.2, 98.4], "98.30 ± 0.14"), ([0.97634], "0.976"), ([3, 3], "3"), ([2.5, 2.5], "2.500 ± 0.000"),
        ([1437], "1437"), ([1712.1, 1712.4], "1712 ± 0"), ([5, 6], "5.500 ± 0.707"), ([math.nan], "nan"), ([-0.5], "-0.500"),
    ],
)  # fmt: skip
def test_an_estimate_as_text(values, text):
    estimate = estimate_of(values)
    assert str(estimate) == text
    assert text.startswith(f"{estimate.shown:g}"), "what is shown is what is ranked"
