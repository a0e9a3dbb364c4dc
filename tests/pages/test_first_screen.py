"""The first screen of the report: its sentence by the tests, the numbers behind it, and where its dots lie."""

import numpy as np
import pytest
from scipy.stats import binomtest

from invp.data.answers import packed
from invp.pages.first_screen import dot_plot, dot_plots, dots_note, evidence, finding, nice_ticks
from invp.pages.numbers import Number, Numbers
from invp.plumbing.metrics import PERCENT


def section(*names: str, seeds: int = 1, columns=("knn.top1",), **titles: str) -> dict:
    loaded = {name: {"stages": [2], "objective": "invp", "title": titles.get(name, name.upper())} for name in names}
    return {"reference": "", "experiments": list(names), "seeds": list(range(seeds)), "columns": list(columns), "loaded": loaded}


def answering(wrong: dict[str, range], images: int = 360) -> Numbers:
    """One seed of experiments that have all but these test images right."""
    rights = {name: np.array([i not in own for i in range(images)]) for name, own in wrong.items()}
    rows = [Number(name, 0, 2, "knn", "top1", 100 * right.mean()) for name, right in rights.items()]
    packs = {(name, 0, 2, "knn.top1"): packed(right) for name, right in rights.items()}
    keys = [(name, "knn") for name in wrong]
    return Numbers(rows, {"knn.top1": PERCENT}, dict.fromkeys(keys, "digits"), dict.fromkeys(keys, images), packs)


def over_seeds(scores: dict[str, list[float]]) -> Numbers:
    return Numbers(
        [Number(n, s, 2, "knn", "top1", v) for n, own in scores.items() for s, v in enumerate(own)], {"knn.top1": PERCENT}
    )


def test_the_sentence_says_of_whom_it_is_ahead_and_from_whom_it_is_not_told_apart():
    numbers = answering({"a": range(4), "b": range(3, 12), "c": range(60), "d": range(70)})
    study = section("a", "b", "c", "d", b="Rival")
    assert finding(study, numbers) == "A is ahead of C and D, and is not told apart from Rival."
    assert evidence(study, numbers, "knn.top1") == (
        "kNN top-1 accuracy on 360 test images, one seed: A 98.9 % (356 of 360) against 97.5 % (351 of 360) of Rival, the best other: "
        f"not told apart, p = {binomtest(3, 11).pvalue:.3f} after Holm's correction (McNemar's exact test: 8 of these images A alone has "
        "right, and 3 the other alone; another seed gives other networks)."
    )


def test_the_sentence_names_no_one_where_all_are_alike_and_counts_where_they_are_many():
    assert (
        finding(section("a", "b", "c"), answering({"a": range(4), "b": range(60), "c": range(70)})) == "A is ahead of every other."
    )
    many = answering({"a": range(4), **{name: range(100) for name in "bcde"}, "f": range(5)})
    assert finding(section(*"abcdef"), many) == "A is ahead of 4 of 5 others, and is not told apart from F."
    assert finding(section("a", "b"), answering({"a": range(60), "b": range(4)})) == "A is behind B."
    alike = answering({"a": range(4), "b": range(4), "c": range(4)})
    assert finding(section("a", "b", "c"), alike) == "A is not told apart from any other."
    assert finding(section("a"), answering({"a": range(4)})) == "A: 98.9 % (356 of 360) kNN top-1 accuracy."
    assert finding(section("a", "b", a="same", b="same"), answering({"a": range(60), "b": range(4)})) == "a is behind b."
    assert finding(section("a", columns=["graph.recall"]), answering({"a": range(4)})) == ""


def test_over_seeds_the_words_are_mean_and_deviation():
    numbers = over_seeds({"a": [90.0, 90.1, 90.2], "b": [80.0, 80.1, 80.3]})
    words = evidence(section("a", "b", seeds=3), numbers, "knn.top1")
    assert words.startswith(
        "kNN top-1 accuracy, 3 seeds: A 90.10 ± 0.10 % against 80.13 ± 0.15 % of B, the best other: ahead, p < 0.001"
    )
    untested = over_seeds({"a": [90.0], "b": [80.0]})
    assert "not testable, since one seed" in evidence(section("a", "b"), untested, "knn.top1")


def at(plot, value: float) -> float:
    """Where a value lies, by two ticks."""
    (left, low), (right, high) = plot.ticks[0], plot.ticks[-1]
    return left + (right - left) * (value - float(low)) / (float(high) - float(low))


def test_dots_and_wilsons_intervals_lie_where_the_ticks_say():
    plot = dot_plot(section("a", "b"), answering({"a": range(60), "b": range(4)}), "knn.top1")
    first, second = plot.rows
    assert (first.title, second.title, first.reference, second.reference) == ("B", "A", False, True)
    ends = binomtest(300, 360).proportion_ci(method="wilson")
    found = second.at, second.low, second.high
    assert found == pytest.approx([at(plot, v) for v in (100 * 300 / 360, 100 * ends.low, 100 * ends.high)], abs=0.02)
    assert float(plot.ticks[-1][1]) <= 100 and plot.title == "kNN top-1 accuracy in %, n = 360 test images"
    assert "Wilson" in dots_note(section("a"))


def test_over_seeds_every_seed_has_a_ring_and_the_bar_is_a_deviation():
    plot = dot_plot(section("a", "b", seeds=3), over_seeds({"a": [90.0, 91.0, 92.0], "b": [80.0, 80.0, 80.0]}), "knn.top1")
    first = plot.rows[0]
    assert (first.low, first.at, first.high) == pytest.approx([at(plot, v) for v in (90, 91, 92)], abs=0.02)
    assert sorted(first.seeds) == pytest.approx(
        [at(plot, v) for v in (90, 91, 92)], abs=0.02
    ) and "standard deviation" in dots_note(section("a", seeds=3))


def test_columns_of_test_images_have_a_plot_each_and_one_experiment_none():
    assert len(dot_plots(section("a", "b", columns=["graph.recall", "knn.top1"]), answering({"a": range(9), "b": range(4)}))) == 1
    assert dot_plots(section("a"), answering({"a": range(9)})) == []


@pytest.mark.parametrize(("low", "high"), [(69.7, 99.6), (0.0, 1.0), (3, 3), (0.912, 0.976), (100, 25_000), (-4, 11)])
def test_ticks_are_round_few_and_around_the_values(low, high):
    ticks = nice_ticks(low, high)
    steps = np.diff(ticks)
    assert ticks[0] <= low and ticks[-1] >= high - 1e-9 and len(ticks) <= 8
    if len(steps):
        mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
        assert np.allclose(steps, steps[0]) and np.isclose(mantissa, [1, 2, 5, 10]).any()
