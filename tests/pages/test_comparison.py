"""Who is ahead of whom by tests over seeds and over test images, and the comparison's plots."""

import math

import numpy as np
from scipy.stats import binomtest

from invp.core.significance import mcnemar, welch
from invp.data.answers import packed
from invp.pages.comparison import against_reference, readouts
from invp.pages.numbers import Number, Numbers
from invp.pages.pairs import difference, sentences
from invp.pages.tables import study_table
from invp.plumbing.metrics import PERCENT, Metric

SECTION = {
    "reference": "", "experiments": ["a", "b", "c", "d"], "seeds": [0, 1, 2], "columns": ["knn.top1"],
    "loaded": {n: {"stages": [1, 2], "objective": "invp"} for n in "abcd"},
}  # fmt: skip


def test_the_table_names_who_is_ahead():
    scores = {"a": [90.0, 90.1, 90.2], "b": [80.0, 80.1, 80.3], "c": [89.9, 90.2, 90.1], "d": [99.0]}
    numbers = Numbers(
        [Number(n, s, 2, "knn", "top1", v) for n, values in scores.items() for s, v in enumerate(values)], {"knn.top1": PERCENT}
    )
    tests = against_reference(SECTION, numbers, "knn.top1")
    assert (tests["reference"], tests["score"]) == ("a", "90.10 ± 0.10")
    ahead, same, untested = tests["table"].rows
    assert ahead[:4] == ["b", "ahead", "80.13 ± 0.15", "+9.97"] and ahead[5] == "Welch, 3 and 3 seeds"
    assert same[:2] == ["c", "not told apart"]
    assert untested == ["d", "not testable", "99.00", "-8.90", "-", "none", "-", "-"]
    assert sentences(SECTION, numbers) == ["knn.top1: a is ahead of b; is not told apart from c; cannot be tested against d."]
    assert against_reference(SECTION, numbers, "knn.top5") is None


def answering(wrong: dict[str, set[int]], images: int = 360) -> Numbers:
    """One seed of experiments that have all but these test images right."""
    rights = {name: np.array([i not in own for i in range(images)]) for name, own in wrong.items()}
    rows = [Number(name, 0, 2, "knn", "top1", 100 * right.mean()) for name, right in rights.items()]
    keys = [(name, "knn") for name in wrong]
    packs = {(name, 0, 2, "knn.top1"): packed(right) for name, right in rights.items()}
    return Numbers(rows, {"knn.top1": PERCENT}, dict.fromkeys(keys, "digits"), dict.fromkeys(keys, images), packs)


def test_355_of_360_is_not_told_apart_from_351_by_one_seed():
    numbers = answering({"a": set(range(5)), "b": set(range(3, 12)), "c": set(range(60))})
    section = {**SECTION, "experiments": ["a", "b", "c"], "seeds": [0]}
    table = against_reference(section, numbers, "knn.top1")["table"]
    close, far = table.rows
    assert table.header[2] == "knn.top1 (n = 360)" and close[2] == "97.5 [95.3, 98.7]" and close[3] == "+1.1"
    assert close[5] == "McNemar, seed 0, 7 : 3 images"
    assert (close[4], close[6], close[7], close[1]) == ("-", f"{binomtest(3, 10).pvalue:.3f}", "0.344", "not told apart")
    assert far[1] == "ahead" and far[6] == "< 0.001"
    assert study_table(section, numbers).best == set()
    assert sentences(section, numbers) == ["knn.top1: a is ahead of c; is not told apart from b."]


def test_the_best_of_one_seed_is_bold_when_mcnemars_test_tells_it_from_each_of_the_others():
    numbers = answering({"a": set(range(60)), "b": set(range(5)), "c": set(range(50, 80))})
    section = {**SECTION, "experiments": ["a", "b", "c"], "seeds": [0]}
    assert study_table(section, numbers).best == {(1, 4)}


def test_holm_counts_all_pairs_of_a_column():
    """p = 0.03125 for one pair; among three pairs, of which the other two are equal networks, it is not below 0.05."""
    numbers = answering({"a": set(range(6)), "b": set()})
    section = {**SECTION, "experiments": ["a", "b"], "seeds": [0]}
    assert mcnemar(0, 6) == 0.03125 and study_table(section, numbers).best == {(1, 4)}
    numbers = answering({"a": set(range(6)), "b": set(), "c": set(range(6, 12))})
    section = {**SECTION, "experiments": ["a", "b", "c"], "seeds": [0]}
    assert study_table(section, numbers).best == set()


def test_networks_that_no_seed_changes_are_compared_image_by_image():
    numbers = answering({"a": set(range(60)), "b": set(range(5))})
    rows = [row._replace(seed=seed) for row in numbers.rows for seed in (0, 1)]
    packs = {(name, seed, 2, "knn.top1"): numbers._right[name, 0, 2, "knn.top1"] for name in "ab" for seed in (0, 1)}
    twice = Numbers(rows, {"knn.top1": PERCENT}, numbers._data, numbers._images, packs)
    found = difference(SECTION, twice, "knn.top1", "a", "b")
    assert found.test.startswith("McNemar, seed 0,") and found.p < 0.001 and math.isnan(found.low)


def test_ahead_is_less_where_less_is_better_and_other_data_sets_are_left_out():
    section = {"reference": "", "experiments": ["a", "b", "c"], "loaded": {n: {"stages": [2]} for n in "abc"}}
    scores = {"a": [0.20, 0.21, 0.22], "b": [0.60, 0.61, 0.63], "c": [0.9, 0.91, 0.92]}
    rows = [Number(n, s, 2, "statistics", "overlap", v) for n, values in scores.items() for s, v in enumerate(values)]
    data = {("a", "statistics"): "digits", ("b", "statistics"): "digits", ("c", "statistics"): "cifar10"}
    tests = against_reference(section, Numbers(rows, {"statistics.overlap": Metric("share", "lower")}, data), "statistics.overlap")
    assert [(row[0], row[1]) for row in tests["table"].rows] == [("b", "ahead")]


def test_readouts_are_over_seeds_and_splits():
    def metrics(name, seed, values):
        details = {"readouts": {"size": {"stem": [0.1, 0.1], "layer1.0": values}}}
        return {"experiment": name, "seed": seed, "stage": 5, "details": details, "protocol": {"test_images": 20}}

    section = {"experiments": ["a", "b"], "reference": "a", "loaded": {n: {"stages": [5]} for n in "ab"}}
    numbers = {("a", 0): [0.5, 0.6], ("a", 1): [0.7, 0.8], ("b", 0): [0.1, 0.2], ("b", 1): [0.3, 0.2]}
    content = [metrics(*key, values) for key, values in numbers.items()]
    (size,) = readouts(section, content)
    difference, _, _, p = welch([0.5, 0.6, 0.7, 0.8], [0.1, 0.2, 0.3, 0.2])
    assert size["task"] == "size (n = 20 test images)" and size["table"].header == [
        "experiment",
        "stem",
        "layer1.0",
        "t-test at the last layer",
        "p, Holm",
    ]
    assert size["table"].rows == [
        ["a", "0.10 ± 0.00", "0.65 ± 0.13", "reference", "-"],
        ["b", "0.10 ± 0.00", "0.20 ± 0.08", f"a {difference:+.2f}, p {p:.3f}", f"{p:.3f}"],
    ]
    assert list(readouts(section, [{**content[0], "details": {}}])) == []


def test_a_layer_that_a_network_lacks_is_not_compared():
    section = {"experiments": ["a", "b"], "reference": "a", "loaded": {n: {"stages": [5]} for n in "ab"}}
    layers = {"a": {"stem": [0.1, 0.3], "layer1": [0.5, 0.7]}, "b": {"stem": [0.1, 0.3]}}
    content = [
        {"experiment": n, "seed": 0, "stage": 5, "details": {"readouts": {"size": v}}, "protocol": {"test_images": 20}}
        for n, v in layers.items()
    ]
    (size,) = readouts(section, content)
    assert size["table"].rows[1] == ["b", "0.20 ± 0.14", "-", "-", "-"]
