"""The numbers of a study, and how they are printed."""

import json
import math

import numpy as np
import pytest
from scipy.stats import binomtest

from invp.data.answers import packed
from invp.pages.numbers import CSV_HEADER, Number, Numbers, read_numbers
from invp.plumbing.metrics import PERCENT


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
    ("values", "texts"),
    [
        ([98.0, 7.25], ["98.00", "7.25"]), ([0.97634, 1.0], ["0.976", "1.000"]), ([3, 3], ["3", "3"]), ([3, 5.5], ["3.000", "5.500"]),
        ([1437, 7], ["1437", "7"]), ([1712.1, 9.5], ["1712", "10"]), ([math.nan, 2.5], ["nan", "2.500"]), ([-0.5], ["-0.500"]),
    ],
)  # fmt: skip
def test_numbers_of_a_column_have_as_many_decimals(values, texts):
    numbers = Numbers([Number(str(i), 0, 1, "svm", "cost", value) for i, value in enumerate(values)])
    assert [numbers.text(str(i), 1, "svm.cost") for i in range(len(values))] == texts


def test_shares_and_percentages_keep_their_decimals_when_all_are_whole():
    rows = [Number("a", 0, 1, "graph", "recall", 1.0), Number("a", 0, 1, "svm", "map", 50.0)]
    numbers = Numbers(rows, {"svm.map": PERCENT})
    assert numbers.text("a", 1, "graph.recall") == "1.000" and numbers.text("a", 1, "svm.map") == "50.00"


def of_digits(values, images=360, metric="top1"):
    """An experiment's accuracies of the seeds 0, 1, ... on n test images."""
    right = {("e", s, 1, f"knn.{metric}"): packed(np.arange(images) < round(v * images / 100)) for s, v in enumerate(values)}
    rows = [Number("e", seed, 1, "knn", metric, value) for seed, value in enumerate(values)]
    return Numbers(rows, {f"knn.{metric}": PERCENT}, {("e", "knn"): "digits"}, {("e", "knn"): images}, right)


def test_an_accuracy_has_wilsons_interval_and_over_seeds_a_deviation_too():
    assert of_digits([100 * 355 / 360]).text("e", 1, "knn.top1") == "98.6 [96.8, 99.4]"
    assert of_digits([100 * 36 / 37], 37).text("e", 1, "knn.top1") == "97.3 [86.2, 99.5]"
    three = of_digits([98.0, 98.5, 99.0], 10_000)
    ends = binomtest(9850, 10_000).proportion_ci(method="wilson")
    assert three.text("e", 1, "knn.top1") == f"98.50 ± 0.50 [{100 * ends.low:.2f}, {100 * ends.high:.2f}]"


def test_n_stands_in_the_heading_of_accuracies_and_of_nothing_else():
    numbers = of_digits([50.0])
    assert numbers.heading("knn.top1") == "knn.top1 (n = 360)" and numbers.heading("graph.recall") == "graph.recall"
    both = Numbers([], {"knn.top1": PERCENT}, images={("e", "knn"): 360, ("f", "knn"): 10_000})
    assert both.heading("knn.top1") == "knn.top1 (n = 360 or 10,000)"
    held_out = of_digits([50.0], metric="validation_top1")
    assert held_out.heading("knn.validation_top1") == "knn.validation_top1", "which are no test images"


def test_a_line_of_the_csv_has_n_and_the_interval_in_full():
    numbers = of_digits([100 * 355 / 360])
    (line,) = map(numbers.as_line, numbers.rows)
    ends = binomtest(355, 360).proportion_ci(method="wilson")
    assert line["value"] == 100 * 355 / 360 and line["images"] == 360
    assert (line["low"], line["high"]) == pytest.approx((100 * ends.low, 100 * ends.high))
    assert set(line) == set(CSV_HEADER)
    assert set(numbers.as_line(Number("e", 0, 1, "graph", "recall", 0.5))) == set(Number._fields)


def test_metrics_of_an_earlier_version_that_kept_no_answers_are_read(tmp_path):
    """As `adopt` may have accepted them: they are printed without an interval."""
    path = tmp_path / "e/seed-0/evals/svm/stage-1/metrics.json"
    path.parent.mkdir(parents=True)
    content = {
        "eval": "svm",
        "metrics": {"map": 71.25},
        "units": {"map": PERCENT._asdict()},
        "protocol": {"data": "voc", "test_images": 40},
    }
    path.write_text(json.dumps(content))
    numbers = read_numbers({"experiments": ["e"], "loaded": {"e": {"dataset": "voc"}}}, {"metrics": [path]})
    assert numbers.text("e", 1, "svm.map") == "71.2" and numbers.answers("e", 0, 1, "svm.map") is None
