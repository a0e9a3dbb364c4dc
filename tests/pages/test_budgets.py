"""Rankings at equal views, seconds and memory against numbers worked out by hand, and what is said of them."""

import math
import re

import numpy as np
import pytest
from scipy import stats

from invp.data.answers import packed
from invp.pages import budgets
from invp.pages.budgets import COSTS, Runs, at, curve_plot, ranking, reached, values_at
from invp.pages.comparison import at_equal_costs, values
from invp.pages.html import render
from invp.pages.numbers import Number, Numbers, estimate_of
from invp.plumbing.metrics import PERCENT

VIEWS, SECONDS, MEMORY = COSTS


def study(scores: dict[str, dict[int, list[float]]], pace: dict[str, tuple[float, float, float]], seeds: int = 3):
    """A study: experiment -> stage -> score of each seed, and of each what an epoch costs in views and seconds, and its memory."""
    rows = []
    for name, stages in scores.items():
        for stage, numbers in stages.items():
            rows += [Number(name, seed, stage, "knn", "top1", value) for seed, value in enumerate(numbers)]
            if stage:
                views, seconds, memory = pace[name]
                for metric, value in (("views", views * stage), ("seconds", seconds * stage), ("memory_mb", memory)):
                    rows += [Number(name, seed, stage, "training", metric, value) for seed in range(len(numbers))]
    loaded = {name: {"stages": sorted(stages), "objective": name} for name, stages in scores.items()}
    section = {"study": "s", "title": "t", "columns": ["knn.top1"], "reference": "", "loaded": loaded}
    section |= {"experiments": list(scores), "seeds": list(range(seeds))}
    return section, Numbers(rows, {"knn.top1": PERCENT})


SCORES = {
    "fast": {1: [40.0, 40.2, 40.1], 2: [50.0, 50.3, 50.1]},
    "slow": {1: [44.0, 44.1, 44.3], 2: [60.0, 60.1, 60.4]},
    "none": {0: [30.0, 30.0, 30.1]},
}
PACE = {"fast": (100.0, 10.0, 500.0), "slow": (100.0, 40.0, 900.0)}


def test_between_stages_a_curve_is_a_line_and_before_the_first_it_is_not_known():
    curve = [(100.0, 40.0), (200.0, 50.0)]
    assert at(curve, 150.0) == pytest.approx(45.0) and at(curve, 200.0) == 50.0 and at(curve, 100.0) == 40.0
    assert at(curve, 50.0) is None


def test_at_equal_views_the_last_stages_and_at_equal_seconds_what_all_have_spent():
    section, numbers = study(SCORES, PACE)
    runs = Runs(section, numbers)
    assert reached(runs, "knn.top1", VIEWS) == 200 and reached(runs, "knn.top1", SECONDS) == 20
    assert values_at(runs, "knn.top1", VIEWS, 200)["slow"] == [60.0, 60.1, 60.4]
    # After 20 s the slow one had not reached the first stage that was measured, at 40 s: nothing is known of it.
    assert set(values_at(runs, "knn.top1", SECONDS, 20)) == {"fast", "none"}
    assert values_at(runs, "knn.top1", SECONDS, 60)["slow"] == pytest.approx([52.0, 52.1, 52.35])


def test_equal_memory_leaves_out_who_needs_over_a_tenth_more():
    section, numbers = study(SCORES, PACE)
    assert set(values_at(Runs(section, numbers), "knn.top1", MEMORY, 500.0)) == {"fast", "none"}
    section, numbers = study(SCORES, {"fast": (100, 10, 500.0), "slow": (100, 40, 549.0)})
    assert set(values_at(Runs(section, numbers), "knn.top1", MEMORY, 500.0)) == {"fast", "slow", "none"}


def test_places_are_what_the_tests_of_all_pairs_leave_open():
    scores = {"a": {1: [50.0, 50.2, 50.1]}, "b": {1: [50.0, 50.1, 50.3]}, "c": {1: [20.0, 20.2, 20.3]}}
    section, numbers = study(scores, {name: (100, 10, 500.0) for name in scores})
    found = ranking(Runs(section, numbers), "knn.top1", VIEWS)
    pairs = [("b", "a"), ("b", "c"), ("a", "c")]
    same, *apart = [stats.ttest_ind(scores[x][1], scores[y][1], equal_var=False).pvalue for x, y in pairs]
    assert same > 0.05 > 3 * max(apart), "by any correction of three"
    assert found.order == ["b", "a", "c"] and found.ahead == {("b", "c"), ("a", "c")}
    assert [row[0] for row in found.table.rows] == ["1 to 2", "1 to 2", "3"]
    assert [row[-1] for row in found.table.rows] == ["first", "not told apart", "behind"]
    low, high = stats.t.interval(0.95, 2, np.mean(scores["c"][1]), stats.sem(scores["c"][1]))
    assert found.table.rows[2][3] == f"{low:.2f} to {high:.2f}"


def test_less_is_first_where_less_is_better_and_without_a_direction_nothing_is_ranked():
    section, numbers = study(SCORES, PACE)
    for better, first in (("lower", "none"), ("higher", "slow")):
        runs = Runs(section, Numbers(numbers.rows, {"knn.top1": PERCENT._replace(better=better)}))
        assert ranking(runs, "knn.top1", VIEWS).order[0] == first
    assert ranking(Runs(section, Numbers(numbers.rows)), "knn.top1", VIEWS) is None


@pytest.fixture
def undrawn(monkeypatch):
    monkeypatch.setattr(budgets, "line_plot", lambda title, series, *labels: series)


def test_the_answer_names_who_is_ahead_and_who_is_not_told_apart(undrawn):
    section, numbers = study(SCORES, PACE)
    answer = at_equal_costs(section, numbers, ["knn.top1"])["answer"]
    score = estimate_of(SCORES["slow"][2]).text(2)
    assert f"At 200 views each, slow is first ({score}), ahead of fast and none." in answer
    assert "At 20 seconds of training each, fast is first" in answer and "n = 3 seeds" in answer
    assert "slow was not evaluated so early." in answer and "slow needs more." in answer
    close = {"a": {1: [50.0, 51.0, 49.0]}, "b": {1: [50.1, 51.2, 49.3]}, "none": {0: [60.0, 60.1, 60.2]}}
    section, numbers = study(close, {name: (100, 10, 500.0) for name in close})
    answer = at_equal_costs(section, numbers, ["knn.top1"])["answer"]
    assert "none is first" in answer and "Without any training none is at least as good as all of them" in answer
    section, numbers = study({"a": close["a"], "b": close["b"]}, {name: (100, 10, 500.0) for name in "ab"})
    assert (
        f"b is first ({estimate_of(close['b'][1]).text(2)}), not told apart from a."
        in at_equal_costs(section, numbers, ["knn.top1"])["answer"]
    )


def test_with_one_seed_nothing_is_told_over_seeds(undrawn):
    one = {name: {stage: numbers[:1] for stage, numbers in stages.items()} for name, stages in SCORES.items()}
    section, numbers = study(one, PACE, seeds=1)
    found = at_equal_costs(section, numbers, ["knn.top1"])
    assert "slow has the best number (60.00), and fast the next (50.00)" in found["answer"]
    assert "With one seed nothing can be told over seeds" in found["answer"] and "ahead" not in found["answer"]
    (_, _, table), *_ = found["rankings"][0]["at"]
    assert table.header == ["place", "experiment", "number", "against the first"], "there is no interval over one seed"
    assert [row[0] for row in table.rows] == ["1 to 3"] * 3 and {row[-1] for row in table.rows[1:]} == {"one seed"}


def test_a_curve_has_a_band_of_one_deviation(monkeypatch):
    drawn = {}
    monkeypatch.setattr(budgets, "line_plot", lambda title, series, *labels: drawn.update(series))
    section, numbers = study(SCORES, PACE)
    for cost, none in ((VIEWS, True), (MEMORY, False)):
        drawn.clear()
        curve_plot(Runs(section, numbers), "knn.top1", cost)
        assert ("none" in drawn) == none, "what was never trained has no memory of a training"
        assert len(drawn["slow"]) == (2 if cost is VIEWS else 1)
        assert drawn["slow"][-1] == pytest.approx((200 if cost is VIEWS else 900, 60 + 1 / 6, *[math.sqrt(13 / 300)] * 2))


def test_the_page_has_curves_rankings_and_the_answer():
    section, numbers = study(SCORES, PACE)
    page = render("comparison.html", **values(section, numbers, []))
    assert page.count("<svg") == 3 and "ahead of fast and none" in page
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert "Which, at equal cost?" in text and "at equal cost: 200 views" in text and "up to a tenth more than 500 MiB" in text


def test_of_one_seed_the_band_is_wilsons_interval(undrawn):
    right = np.array([i >= 5 for i in range(360)])
    rows = [Number("a", 0, 2, "knn", "top1", 100 * right.mean()), Number("a", 0, 2, "training", "views", 10)]
    section = {"experiments": ["a"], "seeds": [0], "loaded": {"a": {"stages": [2]}}}
    units, key = {"knn.top1": PERCENT}, ("a", "knn")
    numbers = Numbers(rows, units, {key: "digits"}, {key: 360}, {("a", 0, 2, "knn.top1"): packed(right)})
    low, high = stats.binomtest(355, 360).proportion_ci(method="wilson")
    (point,) = curve_plot(Runs(section, numbers), "knn.top1", VIEWS)["a"]
    assert point == pytest.approx((10, 100 * 355 / 360, 100 * (355 / 360 - low), 100 * (high - 355 / 360)))
