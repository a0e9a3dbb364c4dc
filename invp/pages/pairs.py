"""Whether two experiments differ in a column: over seeds by Welch's t-test, or, where one seed is all there is, image by image."""

import itertools
import math
from typing import NamedTuple

from invp.core.significance import CONFIDENCE, holm, mcnemar, welch
from invp.pages.numbers import Numbers, last_stage

WORDS = {
    "ahead": "is ahead of",
    "behind": "is behind",
    "not told apart": "is not told apart from",
    "not testable": "cannot be tested against",
}


class Difference(NamedTuple):
    """Of two experiments the first minus the second: of their means, its 95 % interval over seeds, p, and the test in words.

    The interval is NaN without several seeds, and p where there is no test. `alone` is, of McNemar's test, how many test images only the
    first and only the second has right.
    """

    value: float
    low: float
    high: float
    p: float
    test: str
    alone: tuple[int, int] | None = None


def reference_of(section: dict) -> str:
    """The experiment that the others are held against."""
    return section["reference"] or section["experiments"][0]


def difference(section: dict, numbers: Numbers, column: str, first: str, second: str) -> Difference:
    """The difference of two experiments with numbers in a column, at their last stages.

    Where both have several seeds and one varies, Welch's test. Else McNemar's, of the first seed that both have, of the images that the
    first alone has right and those that the second alone has: it is about these two networks, and not about other seeds.
    """
    stages = last_stage(section, first), last_stage(section, second)
    ours, theirs = (numbers.values(name, stage, column) for name, stage in zip((first, second), stages, strict=True))
    value, low, high, p = welch(ours, theirs)
    if not math.isnan(p):
        return Difference(value, low, high, p, f"Welch, {len(ours)} and {len(theirs)} seeds")
    shared = [seed for seed in numbers.seeds(first, stages[0], column) if seed in numbers.seeds(second, stages[1], column)]
    for seed in shared[:1]:
        right, wanted = (numbers.answers(name, seed, stage, column) for name, stage in zip((first, second), stages, strict=True))
        if right is not None and wanted is not None and len(right) == len(wanted):
            only, other = int((right & ~wanted).sum()), int((wanted & ~right).sum())
            words = f"McNemar, seed {seed}, {only} : {other} images"
            return Difference(value, math.nan, math.nan, mcnemar(only, other), words, (only, other))
    return Difference(value, math.nan, math.nan, math.nan, "none")


def verdict(difference: float, p: float, better: str) -> str:
    """What a corrected p says of the first, given its number minus the second's; `better` is higher, lower or empty for neither."""
    if math.isnan(p):
        return "not testable"
    if p >= 1 - CONFIDENCE:
        return "not told apart"
    if not better:
        return "higher" if difference > 0 else "lower"
    return "ahead" if (difference > 0) == (better == "higher") else "behind"


def others_of(section: dict, numbers: Numbers, column: str) -> list[str]:
    """The experiments that the reference can be held against in a column: those with a number on its data set; none if it has none."""
    reference = reference_of(section)
    measured = [name for name in section["experiments"] if numbers.values(name, last_stage(section, name), column)]
    return [
        name for name in measured if reference in measured and name != reference and numbers.comparable([reference, name], column)
    ]


class Against(NamedTuple):
    """What the tests say of the reference and one other experiment in a column."""

    name: str
    difference: Difference
    p: float  # of the difference, after Holm's correction over the column
    said: str  # the verdict


def against_others(section: dict, numbers: Numbers, column: str) -> list[Against]:
    """The reference held against each other experiment that has a number of the same data set in the column."""
    others, better = others_of(section, numbers, column), numbers.metric(column).better
    found = [difference(section, numbers, column, reference_of(section), name) for name in others]
    corrected = holm([each.p for each in found])
    return [Against(name, each, p, verdict(each.value, p, better)) for name, each, p in zip(others, found, corrected, strict=True)]


def best_of(section: dict, numbers: Numbers, column: str) -> str | None:
    """The experiment that is ahead of every other in a column, by tests of all pairs with Holm's correction; None if none is.

    All pairs count, since the one in front was not known before. None too if the numbers are of several data sets.
    """
    measured = [name for name in section["experiments"] if numbers.values(name, last_stage(section, name), column)]
    better = numbers.metric(column).better
    if not better or len(measured) < 2 or not numbers.comparable(measured, column):
        return None
    pairs = list(itertools.combinations(measured, 2))
    found = [difference(section, numbers, column, *pair) for pair in pairs]
    wins = dict.fromkeys(measured, 0)
    for (first, second), each, p in zip(pairs, found, holm([each.p for each in found]), strict=True):
        said = verdict(each.value, p, better)
        if said in ("ahead", "behind"):
            wins[first if said == "ahead" else second] += 1
    return next((name for name, count in wins.items() if count == len(measured) - 1), None)


def sentences(section: dict, numbers: Numbers) -> list[str]:
    """What the tests say of the reference, a sentence for each column of the study of which more or less is better; Holm's correction
    over the column."""
    reference, result = reference_of(section), []
    for column in filter(lambda column: numbers.metric(column).better, section["columns"]):
        said: dict[str, list[str]] = {}
        for each in against_others(section, numbers, column):
            said.setdefault(each.said, []).append(each.name)
        parts = [f"{WORDS[word]} {', '.join(said[word])}" for word in WORDS if word in said]
        if parts:
            result.append(f"{column}: {reference} {'; '.join(parts)}.")
    return result


def tests_note(section: dict) -> str:
    """How it is told that experiments differ, for the reader below the sentences."""
    test = "McNemar's exact test of the two networks on the same test images, which says nothing about other seeds"
    if len(section["seeds"]) > 1:
        test = f"Welch's t-test over seeds, or where no seed varies {test}"
    return f"Told apart: p < {1 - CONFIDENCE:.2g} after Holm's correction within the column, by {test}."


def p_text(p: float) -> str:
    """A p with three decimals."""
    return "-" if math.isnan(p) else "< 0.001" if p < 0.0005 else f"{p:.3f}"
