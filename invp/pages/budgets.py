"""Which experiment at equal views, at equal seconds, at equal memory, and with what certainty over seeds: rankings, curves and words."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import numpy as np

from invp.core.significance import holm, welch, wilson
from invp.pages.numbers import Numbers, estimate_of, last_stage
from invp.pages.plots import Picture, line_plot
from invp.pages.tables import Table

ALIKE = 1.1  # memory up to so many times the least counts as equal: no method is made to need less
SURE = 0.05  # a corrected p below this tells two experiments apart


class Cost(NamedTuple):
    """What a training spends: its column, the axis of a plot, and an amount in words."""

    column: str
    axis: str
    words: str
    spent: bool  # it grows while a network is trained, so that there is an amount that all have reached


COSTS = (
    Cost("training.views", "views seen in pretraining", "{:,.0f} views", True),
    Cost("training.seconds", "seconds of pretraining", "{:,.0f} seconds of training", True),
    Cost("training.memory_mb", "peak memory of pretraining, MiB", "{:,.0f} MiB", False),
)


class Runs:
    """A study's numbers by experiment, seed and stage."""

    def __init__(self, section: dict, numbers: Numbers):
        self.section, self.numbers = section, numbers
        self._values = {(row.experiment, row.seed, row.stage, f"{row.source}.{row.metric}"): row.value for row in numbers.rows}

    def curve(self, experiment: str, seed: int, column: str, cost: str) -> list[tuple[float, float]]:
        """(cost, value) at every stage of a run where the column was measured; before training nothing is spent."""
        points = []
        for stage in self.section["loaded"][experiment]["stages"]:
            value, spent = (self._values.get((experiment, seed, stage, each)) for each in (column, cost))
            if value is not None and not math.isnan(value) and (spent is not None or stage == 0):
                points.append((float(spent or 0.0), float(value)))
        return points

    def curves(self, experiment: str, column: str, cost: str) -> list[list[tuple[float, float]]]:
        """The curves of an experiment's seeds that have any point."""
        found = [self.curve(experiment, seed, column, cost) for seed in self.section["seeds"]]
        return [curve for curve in found if curve]

    def measured(self, column: str) -> list[str]:
        """The experiments with numbers of a column that are of one data set: that of the first of them."""
        names = [name for name in self.section["experiments"] if self.numbers.values(name, last_stage(self.section, name), column)]
        return [name for name in names if self.numbers.comparable([names[0], name], column)]

    def trained(self, experiment: str) -> bool:
        return last_stage(self.section, experiment) > 0


def at(curve: list[tuple[float, float]], amount: float) -> float | None:
    """The value of a curve at an amount, on the line between two stages; None before the first stage that was measured."""
    costs, values = zip(*curve, strict=True)
    if amount < costs[0] * (1 - 1e-9):
        return None
    return float(np.interp(amount, costs, values))


def reached(runs: Runs, column: str, cost: Cost) -> float | None:
    """The amount at which experiments are compared: what every trained run has spent, or, of memory, what the leanest needs."""
    ends = [
        curve[-1][0] for name in runs.measured(column) if runs.trained(name) for curve in runs.curves(name, column, cost.column)
    ]
    return min(ends, default=None)


def values_at(runs: Runs, column: str, cost: Cost, amount: float) -> dict[str, list[float]]:
    """The values of a column at an amount, one a seed, of every experiment that has them there.

    Of memory it is the last stage of those that need at most a tenth more; what is not trained counts at any amount.
    """
    found = {}
    for name in runs.measured(column):
        curves = runs.curves(name, column, cost.column)
        if not runs.trained(name):
            values: list[float | None] = list(runs.numbers.values(name, last_stage(runs.section, name), column))
        elif cost.spent:
            values = [at(curve, amount) for curve in curves]
        else:
            values = [curve[-1][1] for curve in curves if curve[-1][0] <= ALIKE * amount]
        if values and None not in values and (cost.spent or len(values) == len(curves) or not runs.trained(name)):
            found[name] = [value for value in values if value is not None]
    return found


@dataclass
class Ranking:
    """Experiments at an equal cost, the best first, and which of them are told apart over seeds."""

    amount: str
    order: list[str]
    values: dict[str, list[float]]
    ahead: set[tuple[str, str]]  # (the better, the worse)
    left_out: list[str]  # what has no number at this cost
    decimals: int  # of the column

    def places(self, name: str) -> tuple[int, int]:
        """The best and the worst place that the tests leave open."""
        before = sum((other, name) in self.ahead for other in self.order)
        behind = sum((name, other) in self.ahead for other in self.order)
        return 1 + before, len(self.order) - behind

    def text(self, name: str) -> str:
        """The mean of an experiment, with its deviation over seeds."""
        return estimate_of(self.values[name]).text(self.decimals)

    @property
    def table(self) -> Table:
        """A row an experiment, with the interval of its mean over seeds if there are several, and whether it is told apart from the first."""
        rows, several = [], any(len(values) > 1 for values in self.values.values())
        for name in self.order:
            low, high = self.places(name)
            first = name == self.order[0]
            one = min(len(self.values[name]), len(self.values[self.order[0]])) < 2
            against = (
                "first" if first else "behind" if (self.order[0], name) in self.ahead else "one seed" if one else "not told apart"
            )
            place = str(low) if low == high else f"{low} to {high}"
            numbers = [self.text(name), interval(self.values[name], self.decimals)] if several else [self.text(name)]
            rows.append([place, name, *numbers, against])
        header = ["mean ± SD", "95 % interval of the mean"] if several else ["number"]
        return Table(["place", "experiment", *header, "against the first"], rows, named=1)


def interval(values: list[float], decimals: int) -> str:
    """Student's 95 % interval of a mean over seeds, with so many decimals; '-' for one seed."""
    if len(values) < 2:
        return "-"
    from scipy import stats

    estimate = estimate_of(values)
    half = float(stats.t.ppf(0.975, len(values) - 1)) * estimate.deviation / math.sqrt(len(values))
    return f"{estimate.mean - half:.{decimals}f} to {estimate.mean + half:.{decimals}f}"


def ranking(runs: Runs, column: str, cost: Cost) -> Ranking | None:
    """The experiments ranked in a column at an equal cost; None unless two have numbers there and more or less of them is better.

    Pairs are told apart by Welch's test over seeds, corrected after Holm over all of them.
    """
    better, amount = runs.numbers.metric(column).better, reached(runs, column, cost)
    values = values_at(runs, column, cost, amount) if better and amount is not None else {}
    if len(values) < 2 or amount is None:
        return None
    order = sorted(values, key=lambda name: float(np.mean(values[name])), reverse=better == "higher")
    pairs = list(combinations(order, 2))  # of each the one that stands before the other
    corrected = holm([welch(values[one], values[other])[3] for one, other in pairs])
    ahead = {pair for pair, p in zip(pairs, corrected, strict=True) if p < SURE}  # NaN is not
    left_out = [name for name in runs.measured(column) if name not in values]
    return Ranking(cost.words.format(amount), order, values, ahead, left_out, runs.numbers.decimals(column))


def sentence(found: Ranking, cost: Cost) -> str:
    """What a ranking says, in words."""
    first, *others = found.order
    left = (
        f" {listed(found.left_out)} {'were' if len(found.left_out) > 1 else 'was'} not evaluated so early."
        if found.left_out
        else ""
    )
    left = f" {listed(found.left_out)} {'need' if len(found.left_out) > 1 else 'needs'} more." if left and not cost.spent else left
    where = f"At {found.amount} each" if cost.spent else f"Within {round(100 * (ALIKE - 1))} % of {found.amount}"
    if all(len(values) < 2 for values in found.values.values()):
        return (
            f"{where}, {first} has the best number ({found.text(first)}), and {others[0]} the next ({found.text(others[0])}).{left}"
        )
    behind = [name for name in others if (first, name) in found.ahead]
    open_ = [name for name in others if name not in behind]
    said = f"{where}, {first} is first ({found.text(first)})"
    said += f", ahead of {listed(behind)}" if behind else ""
    said += f"{';' if behind else ','} not told apart from {listed(open_)}" if open_ else ""
    return f"{said}.{left}"


def listed(names: list[str]) -> str:
    """'a, b and c'."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def answer(runs: Runs, column: str, rankings: list[tuple[Cost, Ranking]]) -> str:
    """One paragraph: which experiment in a column, at each equal cost, and with what certainty."""
    words = [f"In {column}:", *(sentence(found, cost) for cost, found in rankings)]
    seeds = len(runs.section["seeds"])
    if seeds == 1:
        words.append(
            "With one seed nothing can be told over seeds: another seed may well change the order. Give the study three or more."
        )
    else:
        words.append(
            f"That is said of n = {seeds} seeds, by Welch's t-test of each pair, corrected after Holm; "
            "where it says 'not told apart', the difference may be chance."
        )
    _, found = rankings[0]
    untrained = [name for name in found.order if not runs.trained(name)]
    trained = [name for name in found.order if runs.trained(name)]
    for floor in untrained:
        above = [name for name in trained if found.order.index(name) < found.order.index(floor)]
        sure = [name for name in trained if (name, floor) in found.ahead]
        if not above:
            words.append(f"Without any training {floor} is at least as good as all of them: so far nothing useful was learned.")
        elif seeds > 1 and not sure:
            words.append(f"None is told apart from {floor}, which has no training at all.")
    return " ".join(words)


def curve_plot(runs: Runs, column: str, cost: Cost) -> Picture | None:
    """A column against a cost, at every stage: the mean over seeds with a band of one standard deviation to either side, or of one seed
    with Wilson's interval over the test images where there is one.

    What costs memory has a point at its last stage; None if nothing was measured.
    """
    series: dict[str, list[tuple]] = {}
    for name in runs.section["experiments"]:
        curves = runs.curves(name, column, cost.column)
        if not curves or not (cost.spent or runs.trained(name)):
            continue
        whole = [curve if cost.spent else curve[-1:] for curve in curves if len(curve) == max(map(len, curves))]
        images = runs.numbers.shared_by(name, last_stage(runs.section, name), column)
        series[name] = []
        for points in zip(*whole, strict=True):
            x, y = (float(np.mean(values)) for values in zip(*points, strict=True))
            below = above = float(np.std([value for _, value in points], ddof=1)) if len(points) > 1 else 0.0
            if len(points) == 1 and images:
                low, high = wilson(y / 100, images)
                below, above = y - 100 * low, 100 * high - y
            series[name].append((x, y, below, above))
    heading = runs.numbers.heading(column)
    return line_plot(f"{heading} against {cost.axis}", series, cost.axis, heading) if series else None
