"""What a study's first screen says: the finding, the numbers behind it, and a plot of them with intervals. n test images, S seeds."""

import math
from dataclasses import dataclass, field

from invp.core.significance import wilson
from invp.pages.numbers import Numbers, last_stage
from invp.pages.pairs import WORDS, Against, against_others, p_text, reference_of
from invp.pages.words import column_words, listed, score_words, sentence_case, titles

MARGIN = 0.06  # of the axis, left free at both ends
MOST_PLOTS = 3
TICKS = 6  # at most about so many


def main_column(section: dict, numbers: Numbers) -> str | None:
    """The first of the study's columns in which the reference has a number and of which more or less is better; None without one."""
    reference = reference_of(section)
    for column in section["columns"]:
        if numbers.metric(column).better and numbers.values(reference, last_stage(section, reference), column):
            return column
    return None


def finding(section: dict, numbers: Numbers) -> str:
    """One sentence: whether what the reference gained in the study's main column is certain, by the tests; '' without a number."""
    column, names = main_column(section, numbers), titles(section)
    if column is None:
        return ""
    reference = names[reference_of(section)]
    said: dict[str, list[str]] = {}
    others = against_others(section, numbers, column)
    for each in others:
        said.setdefault(each.said, []).append(names[each.name])
    if not said:
        return f"{reference}: {score_words(section, numbers, reference_of(section), column)} {column_words(column)}."
    if len(others) > 1 and len(said) == 1:
        word = next(iter(said))
        return f"{reference} {WORDS[word]} {'every' if word in ('ahead', 'behind') else 'any'} other."
    parts = [f"{WORDS[word]} {listed(said[word], f'of {len(others)} others')}" for word in WORDS if word in said]
    return f"{reference} {', and '.join(parts) if len(parts) < 3 else '; '.join(parts)}."


def nearest(section: dict, numbers: Numbers, column: str) -> Against | None:
    """What the tests say of the reference and the best of the others; None if it has none."""
    others = against_others(section, numbers, column)
    sign = -1 if numbers.metric(column).better == "lower" else 1
    return min(others, key=lambda each: sign * each.difference.value, default=None)


def evidence(section: dict, numbers: Numbers, column: str) -> str:
    """The numbers behind the finding: those of the reference and of the best other, the difference's p, and what the test is about."""
    names, reference = titles(section), reference_of(section)
    images, seeds = numbers.images(column), len(section["seeds"])
    on = f" on {' or '.join(f'{n:,}' for n in images)} test images" if images else ""
    words = f"{column_words(column)}{on}, {'one seed' if seeds == 1 else f'{seeds} seeds'}: "
    words = sentence_case(words)
    words += f"{names[reference]} {score_words(section, numbers, reference, column)}"
    rival = nearest(section, numbers, column)
    if rival is None:
        return f"{words}."
    words += f" against {score_words(section, numbers, rival.name, column)} of {names[rival.name]}, the best other: {rival.said}"
    if math.isnan(rival.p):
        return f"{words}, since one seed has no spread and single images are not answered." if seeds == 1 else f"{words}."
    p = p_text(rival.p)
    corrected = " after Holm's correction" if len(against_others(section, numbers, column)) > 1 else ""
    test, alone = rival.difference.test, rival.difference.alone
    if alone:
        test = f"McNemar's exact test: {alone[0]} of these images {names[reference]} alone has right, and {alone[1]} the other alone; another seed gives other networks"
    return f"{words}, p {p if p.startswith('<') else f'= {p}'}{corrected} ({test})."


@dataclass
class Dot:
    """A row of a dot plot; places are percentages of its width, from the left."""

    title: str
    text: str
    at: float
    low: float | None  # the ends of the interval, if there is one
    high: float | None
    seeds: list[float] = field(default_factory=list)  # each seed's own number, if there are several
    reference: bool = False
    name: str = ""


@dataclass
class DotPlot:
    """Numbers with intervals, the best first, on an axis with ticks (place, text)."""

    title: str
    rows: list[Dot]
    ticks: list[tuple[float, str]]


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`, at most about TICKS of them."""
    span = max(high - low, 1e-9)
    size = 10 ** math.floor(math.log10(span / (TICKS - 1)))
    step = next(size * factor for factor in (1, 2, 5, 10) if span / (size * factor) <= TICKS - 1)
    first = math.floor(low / step)
    return [step * number for number in range(first, math.ceil(high / step) + 1)]


def dot_plot(section: dict, numbers: Numbers, column: str) -> DotPlot | None:
    """A column of all experiments at their last stages; None unless two have numbers there.

    The bar of one seed is Wilson's interval over the n test images; that of several seeds is a standard deviation to either side.
    """
    names, reference, found = titles(section), reference_of(section), []
    for name in section["experiments"]:
        stage = last_stage(section, name)
        estimate = numbers.estimate(name, stage, column)
        if estimate is None or math.isnan(estimate.mean):
            continue
        low, high, images = None, None, numbers.shared_by(name, stage, column)
        if estimate.seeds > 1:
            low, high = estimate.mean - estimate.deviation, estimate.mean + estimate.deviation
        elif images:
            low, high = (100 * end for end in wilson(estimate.mean / 100, images))
        own = numbers.values(name, stage, column) if estimate.seeds > 1 else []
        text = score_words(section, numbers, name, column)
        found.append(Dot(names[name], text, estimate.mean, low, high, own, name == reference, name))
    if len(found) < 2:
        return None
    found.sort(key=lambda dot: dot.at, reverse=numbers.metric(column).better != "lower")
    values = [value for dot in found for value in (dot.at, dot.low, dot.high, *dot.seeds) if value is not None]
    ticks = nice_ticks(min(values), max(values))
    if numbers.metric(column).unit == "%":
        ticks = [tick for tick in ticks if tick <= 100]
    start, end = min(ticks[0], *values), max(ticks[-1], *values)

    def place(value: float) -> float:
        return round(100 * (MARGIN + (1 - 2 * MARGIN) * (value - start) / (end - start)), 2)

    for dot in found:
        dot.at, dot.seeds = place(dot.at), list(map(place, dot.seeds))
        if dot.low is not None and dot.high is not None:
            dot.low, dot.high = place(dot.low), place(dot.high)
    return DotPlot(plot_title(numbers, column), found, [(place(tick), f"{tick:g}") for tick in ticks])


def plot_title(numbers: Numbers, column: str) -> str:
    """What a dot plot shows: the column, its unit, and n."""
    images = " or ".join(f"{n:,}" for n in numbers.images(column))
    unit = " in %" if numbers.metric(column).unit == "%" else ""
    return f"{sentence_case(column_words(column))}{unit}{f', n = {images} test images' if images else ''}"


def dots_note(section: dict) -> str:
    """What the bars of the dot plots are, for the reader below them."""
    seeds = len(section["seeds"])
    if seeds > 1:
        return f"{seeds} seeds. Bar: one standard deviation over them to either side of the mean; rings: each seed. Diamond: the reference."
    return (
        "One seed. Bar: Wilson's 95 % interval over the test images, which says nothing about other seeds. Diamond: the reference."
    )


def dot_plots(section: dict, numbers: Numbers) -> list[DotPlot]:
    """The plots of the study's first columns that are measured on test images, or of its main column."""
    columns = [column for column in section["columns"] if numbers.images(column)] or [main_column(section, numbers)]
    plots = [dot_plot(section, numbers, column) for column in columns[:MOST_PLOTS] if column]
    return [plot for plot in plots if plot]
