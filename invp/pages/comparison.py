"""A page that compares the experiments of a study: curves against views and against time, mean and SD, and tests over seeds."""

import math
import statistics
from pathlib import Path

from scipy import stats

from invp.pages.html import escaped, html_table, line_plot, write_page
from invp.pages.numbers import cell, folded, note, table

CONFIDENCE = 0.95


def scores(rows: list[dict], experiment: str, column: str, stage: int) -> list[float]:
    """The numbers of `source.metric` at a stage, one a seed."""
    source, metric = column.split(".", 1)
    wanted = (experiment, stage, source, metric)
    return [r["value"] for r in rows if (r["experiment"], r["stage"], r["source"], r["metric"]) == wanted]


def welch(ours: list[float], theirs: list[float]) -> tuple[float, float, float, float]:
    """The difference of the means, its 95 % confidence interval, and the two-sided p of Welch's t-test (unequal variances).

    NaN for interval and p where a side has one number or neither varies.
    """
    difference = sum(ours) / len(ours) - sum(theirs) / len(theirs)
    if min(len(ours), len(theirs)) < 2 or len(set(ours)) == len(set(theirs)) == 1:
        return difference, math.nan, math.nan, math.nan
    test = stats.ttest_ind(ours, theirs, equal_var=False)
    interval = test.confidence_interval(CONFIDENCE)
    return difference, float(interval.low), float(interval.high), float(test.pvalue)


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction of several tests of one question; NaN stays NaN and is not counted."""
    order = sorted((p, i) for i, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for place, (p, i) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - place)))
        corrected[i] = largest
    return corrected


def test_table(section: dict, rows: list[dict], column: str) -> str:
    """Every experiment against the reference in one column."""
    reference = section["reference"] or section["experiments"][0]
    last = {name: about["stages"][-1] for name, about in section["loaded"].items()}
    base = scores(rows, reference, column, last[reference])
    others = [n for n in section["experiments"] if n != reference and scores(rows, n, column, last[n])]
    if not base or not others:
        return ""
    tests = [welch(base, scores(rows, name, column, last[name])) for name in others]
    corrected = holm([test[3] for test in tests])
    body = []
    for name, (difference, low, high, p), p_holm in zip(others, tests, corrected, strict=True):
        known = not math.isnan(p)
        verdict = (
            "not testable"
            if not known
            else "no difference shown"
            if p_holm >= 1 - CONFIDENCE
            else "ahead"
            if difference > 0
            else "behind"
        )
        body.append([
            name, cell(folded(rows, name, column, last[name])), f"{difference:+.3f}",
            f"{low:+.3f} to {high:+.3f}" if known else "-", f"{p:.3f}" if known else "-", f"{p_holm:.3f}" if known else "-", verdict,
        ])  # fmt: skip
    words = escaped(f"{column}: {reference} ({cell(folded(rows, reference, column, last[reference]))}) minus each other")
    header = ["experiment", "mean ± SD", "difference", "95 % interval", "p", "p, Holm", f"{reference} is"]
    return f"<h3>{words}</h3>{html_table(header, body)}"


def plots(section: dict, rows: list[dict], column: str) -> str:
    """A column at every stage where it was measured, against views and against seconds, mean and SD over seeds."""
    result = []
    for axis, label in (("training.views", "views seen in pretraining"), ("training.seconds", "seconds of pretraining")):
        series = {}
        for name in section["experiments"]:
            points = []
            for stage in section["loaded"][name]["stages"]:
                value = folded(rows, name, column, stage)
                if value is None:
                    continue
                at = folded(rows, name, axis, stage) or (0.0, 0.0, 1)  # before training nothing was spent
                points.append((at[0], value[0], 0.0 if math.isnan(value[1]) else value[1]))
            if points:
                series[name] = points
        if series:
            result.append(line_plot(series, label, column))
    return f"<div class=plots>{''.join(result)}</div>"


def read_outs(section: dict, metrics: list[dict]) -> str:
    """What is read out linearly of every layer (Fig. 1E of the study in PNAS), mean and SD over seeds x splits, and t-tests."""
    last = {name: about["stages"][-1] for name, about in section["loaded"].items()}
    found: dict[str, dict[str, dict[str, list[float]]]] = {}  # task -> experiment -> layer -> numbers of all seeds and splits
    for content in metrics:
        if "readouts" in content["details"] and content["stage"] == last[content["experiment"]]:
            for task, layers in content["details"]["readouts"].items():
                mine = found.setdefault(task, {}).setdefault(content["experiment"], {})
                for layer, values in layers.items():
                    mine.setdefault(layer, []).extend(values)
    parts = []
    for task, experiments in found.items():
        layers = list(next(iter(experiments.values())))
        series = {
            name: [
                (i, statistics.fmean(own[layer]), statistics.stdev(own[layer])) for i, layer in enumerate(layers) if layer in own
            ]
            for name, own in experiments.items()
        }
        reference = section["reference"] or section["experiments"][0]
        header, body, p_values = ["experiment", *layers, "t-test at the last layer", "p, Holm"], [], []
        for name, own in experiments.items():
            values = [f"{statistics.fmean(own[layer]):.2f} ± {statistics.stdev(own[layer]):.2f}" for layer in layers]
            tested = name != reference and reference in experiments and layers[-1] in experiments[reference]
            test = welch(experiments[reference][layers[-1]], own[layers[-1]]) if tested else None
            p_values.append(test[3] if test else math.nan)
            body.append([name, *values, f"{reference} {test[0]:+.2f}, p {test[3]:.3g}" if test else "reference"])
        for line, p in zip(body, holm(p_values), strict=True):
            line.append("-" if math.isnan(p) else f"{p:.3g}")
        unit = "%" if task == "category" else "r"
        plot = line_plot(series, f"layer: {', '.join(f'{i} {layer}' for i, layer in enumerate(layers))}", f"{task} ({unit})")
        parts.append(f"<h3>{escaped(task)}</h3>{plot}{html_table(header, body)}")
    return "".join(parts)


def write(section: dict, rows: list[dict], metrics: list[dict], out: Path) -> None:
    """Writes the page from the study's numbers and its evaluations' metrics.json."""
    header, body = table(section, rows)
    measured = [
        c for c in section["columns"] if not c.startswith("training.") and any(r["source"] == c.split(".")[0] for r in rows)
    ]
    n = len(section["seeds"])
    warning = (
        f"<p class=note>Welch's t-test over n = {n} seeds, two-sided; p is corrected after Holm for the number of comparisons in a table. "
        "So few seeds show large differences alone, and the seeds share one test set: the interval is about the seed, not about other images.</p>"
        if n > 1
        else "<p class=note>One seed: nothing can be tested. Give the study several seeds.</p>"
    )
    title = section["title"] or section["study"]
    content = (
        f"<section><h2>Results</h2>{html_table(header, body, best=True)}<p class=note>{escaped(note(section))}</p></section>"
        f"<section><h2>Against views and against time</h2>{''.join(plots(section, rows, c) for c in measured)}"
        "<p class=note>Seconds are those of the training loop on the device named in the report; start-ups are not in them.</p></section>"
        f"<section><h2>Tests over seeds</h2>{warning}{''.join(test_table(section, rows, c) for c in measured)}</section>"
    )
    if layers := read_outs(section, metrics):
        content += (
            f"<section><h2>Read out of every layer</h2>{layers}<p class=note>Mean ± SD over seeds x splits; unpaired t-tests over them, "
            "as published: the splits of a seed share a network and the test images, so that p is too small.</p></section>"
        )
    top = f"<h1>{escaped(title)}: comparison</h1><p><a href=report.html>Back to the report</a></p>"
    write_page(f"{title}: comparison", top, content, out)
