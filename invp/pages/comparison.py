"""The values of the comparison: which experiment at equal costs, curves against them, and tests over seeds."""

import math
from collections.abc import Iterator

from invp.pages import budgets
from invp.pages.numbers import Numbers, estimate_of, last_stage
from invp.pages.plots import line_plot
from invp.pages.tables import Table, study_note, study_table

CONFIDENCE = 0.95


def welch(ours: list[float], theirs: list[float]) -> tuple[float, float, float, float]:
    """The difference of the means, its 95 % confidence interval, and the two-sided p of Welch's t-test.

    The test takes variances as unequal. NaN for interval and p where a side has one number or neither varies.
    """
    difference = sum(ours) / len(ours) - sum(theirs) / len(theirs)
    if min(len(ours), len(theirs)) < 2 or len(set(ours)) == len(set(theirs)) == 1:
        return difference, math.nan, math.nan, math.nan
    from scipy import stats

    test = stats.ttest_ind(ours, theirs, equal_var=False)
    interval = test.confidence_interval(CONFIDENCE)
    return difference, float(interval.low), float(interval.high), float(test.pvalue)


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction of several tests of one question; NaN stays NaN and is not counted."""
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for smaller, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - smaller)))
        corrected[i] = largest
    return corrected


def reference_of(section: dict) -> str:
    """The experiment that the others are held against."""
    return section["reference"] or section["experiments"][0]


def verdict(difference: float, p: float, better: str) -> str:
    """What a corrected p says of the reference, given its mean minus the other's; `better` is higher, lower or empty for neither."""
    if math.isnan(p):
        return "not testable"
    if p >= 1 - CONFIDENCE:
        return "no difference shown"
    if not better:
        return "higher" if difference > 0 else "lower"
    return "ahead" if (difference > 0) == (better == "higher") else "behind"


def against_reference(section: dict, numbers: Numbers, column: str) -> dict | None:
    """The reference against all others of the same data set in one column, at their last stages; None without both."""
    reference = reference_of(section)
    scores = {name: numbers.values(name, last_stage(section, name), column) for name in section["experiments"]}
    others = [
        name
        for name in section["experiments"]
        if name != reference and scores[name] and numbers.comparable([reference, name], column)
    ]
    if not scores[reference] or not others:
        return None
    tests = [welch(scores[reference], scores[name]) for name in others]
    corrected = holm([p for *_, p in tests])
    rows = []
    for name, (difference, low, high, p), p_holm in zip(others, tests, corrected, strict=True):
        tested = ["-", "-", "-"] if math.isnan(p) else [f"{low:+.3f} to {high:+.3f}", f"{p:.3f}", f"{p_holm:.3f}"]
        rows.append(
            [
                name,
                str(estimate_of(scores[name])),
                f"{difference:+.3f}",
                *tested,
                verdict(difference, p_holm, numbers.metric(column).better),
            ]
        )
    header = ["experiment", "mean ± SD", "difference", "95 % interval", "p", "p, Holm", f"{reference} is"]
    return {
        "column": column,
        "reference": reference,
        "score": str(estimate_of(scores[reference])),
        "table": Table(header, rows),
    }


def at_equal_costs(section: dict, numbers: Numbers, columns: list[str]) -> dict:
    """The curves of the columns, how they rank the experiments at equal views, seconds and memory, and the first of them in words."""
    runs = budgets.Runs(section, numbers)
    plots = [[plot for cost in budgets.COSTS if (plot := budgets.curve_plot(runs, column, cost))] for column in columns]
    rankings, answer = [], ""
    for column in columns:
        found = [(cost, rank) for cost in budgets.COSTS if (rank := budgets.ranking(runs, column, cost, welch, holm))]
        if found:
            rankings.append({"column": column, "at": [(rank.amount, cost.spent, rank.table) for cost, rank in found]})
            answer = answer or budgets.answer(runs, column, found)
    return {"plots": [pictures for pictures in plots if pictures], "rankings": rankings, "answer": answer}


def readouts(section: dict, metrics: list[dict]) -> Iterator[dict]:
    """What is read out linearly of every layer (Fig. 1E of the study in PNAS), over seeds x splits, with t-tests."""
    # task -> experiment -> layer -> numbers of all seeds and splits
    tasks: dict[str, dict[str, dict[str, list[float]]]] = {}
    for content in metrics:
        if "readouts" in content["details"] and content["stage"] == last_stage(section, content["experiment"]):
            for task, layers in content["details"]["readouts"].items():
                by_layer = tasks.setdefault(task, {}).setdefault(content["experiment"], {})
                for layer, values in layers.items():
                    by_layer.setdefault(layer, []).extend(values)
    reference = reference_of(section)
    for task, experiments in tasks.items():
        layers = list(next(iter(experiments.values())))
        series, rows, p_values = {}, [], []
        for name, by_layer in experiments.items():
            estimates = {layer: estimate_of(by_layer[layer]) for layer in layers if layer in by_layer}
            series[name] = [(i, *estimates[layer][:2]) for i, layer in enumerate(layers) if layer in estimates]
            cells = [f"{e.mean:.2f} ± {e.deviation:.2f}" if (e := estimates.get(layer)) else "-" for layer in layers]
            ours, theirs = experiments.get(reference, {}).get(layers[-1]), by_layer.get(layers[-1])
            test = welch(ours, theirs) if name != reference and ours and theirs else None
            p_values.append(test[3] if test else math.nan)
            tested = f"{reference} {test[0]:+.2f}, p {test[3]:.3g}" if test else "reference" if name == reference else "-"
            rows.append([name, *cells, tested])
        for row, p in zip(rows, holm(p_values), strict=True):
            row.append("-" if math.isnan(p) else f"{p:.3g}")
        axis = f"layer: {', '.join(f'{i} {layer}' for i, layer in enumerate(layers))}"
        picture = line_plot(series, axis, f"{task} ({'%' if task == 'category' else 'r'})")
        header = ["experiment", *layers, "t-test at the last layer", "p, Holm"]
        yield {"task": task, "picture": picture, "table": Table(header, rows)}


def values(section: dict, numbers: Numbers, metrics: list[dict]) -> dict:
    """What comparison.html is filled in with; `metrics` are the contents of the evaluations' metrics.json."""
    sources = {row.source for row in numbers.rows} - {"training"}
    columns = [column for column in section["columns"] if column.split(".")[0] in sources]
    return {
        "title": section["title"] or section["study"],
        "seeds": section["seeds"],
        "results": study_table(section, numbers),
        "results_note": study_note(section),
        **at_equal_costs(section, numbers, columns),
        "tests": [tests for column in columns if (tests := against_reference(section, numbers, column))],
        "readouts": list(readouts(section, metrics)),
    }
