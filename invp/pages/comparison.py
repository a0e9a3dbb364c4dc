"""The values of the comparison: which experiment at equal costs, curves against them, and tests against the reference."""

import math
from collections.abc import Iterator

from invp.core.significance import decimals_of_share, holm, welch
from invp.pages import budgets
from invp.pages.numbers import Numbers, estimate_of, last_stage
from invp.pages.pairs import against_others, p_text, reference_of, sentences, tests_note
from invp.pages.plots import line_plot
from invp.pages.tables import Table, study_note, study_table


def against_reference(section: dict, numbers: Numbers, column: str) -> dict | None:
    """The reference against all others of the same data set in one column, at their last stages; None without both."""
    reference, others = reference_of(section), against_others(section, numbers, column)
    if not others:
        return None
    rows = []
    for name, each, p_holm, said in others:
        ends = "-" if math.isnan(each.low) else " to ".join(signed(end, column, numbers) for end in (each.low, each.high))
        score = numbers.text(name, last_stage(section, name), column)
        rows.append([name, said, score, signed(each.value, column, numbers), ends, each.test, p_text(each.p), p_text(p_holm)])
    header = [
        "experiment",
        f"{reference} is",
        numbers.heading(column),
        "difference",
        "95 % interval over seeds",
        "test",
        "p",
        "p, Holm",
    ]
    return {
        "column": numbers.heading(column),
        "reference": reference,
        "score": numbers.text(reference, last_stage(section, reference), column),
        "table": Table(header, rows),
    }


def signed(value: float, column: str, numbers: Numbers) -> str:
    """A difference with its sign and the decimals of the column."""
    text = numbers.number_text(abs(value), column)
    return f"-{text}" if value < 0 else f"+{text}"


def at_equal_costs(section: dict, numbers: Numbers, columns: list[str]) -> dict:
    """The curves of the columns, how they rank the experiments at equal views, seconds and memory, and the first of them in words."""
    runs = budgets.Runs(section, numbers)
    plots = [[plot for cost in budgets.COSTS if (plot := budgets.curve_plot(runs, column, cost))] for column in columns]
    rankings, answer = [], ""
    for column in columns:
        found = [(cost, rank) for cost in budgets.COSTS if (rank := budgets.ranking(runs, column, cost))]
        if found:
            rankings.append({"column": column, "at": [(rank.amount, cost.spent, rank.table) for cost, rank in found]})
            answer = answer or budgets.answer(runs, column, found)
    return {"plots": [pictures for pictures in plots if pictures], "rankings": rankings, "answer": answer}


def readouts(section: dict, metrics: list[dict]) -> Iterator[dict]:
    """What is read out linearly of every layer (Fig. 1E of the study in PNAS), over seeds x splits, with t-tests."""
    # task -> experiment -> layer -> numbers of all seeds and splits
    tasks: dict[str, dict[str, dict[str, list[float]]]] = {}
    images: dict[str, set[int]] = {}  # task -> n test images
    for content in metrics:
        if "readouts" in content["details"] and content["stage"] == last_stage(section, content["experiment"]):
            for task, layers in content["details"]["readouts"].items():
                by_layer = tasks.setdefault(task, {}).setdefault(content["experiment"], {})
                images.setdefault(task, set()).add(content["protocol"]["test_images"])
                for layer, values in layers.items():
                    by_layer.setdefault(layer, []).extend(values)
    reference = reference_of(section)
    for task, experiments in tasks.items():
        layers = list(next(iter(experiments.values())))
        decimals = decimals_of_share(min(images[task])) if task == "category" else 2
        series, rows, p_values = {}, [], []
        for name, by_layer in experiments.items():
            estimates = {layer: estimate_of(by_layer[layer]) for layer in layers if layer in by_layer}
            series[name] = [
                (i, estimates[layer].mean, *[estimates[layer].deviation] * 2)
                for i, layer in enumerate(layers)
                if layer in estimates
            ]
            cells = [e.text(decimals) if (e := estimates.get(layer)) else "-" for layer in layers]
            ours, theirs = experiments.get(reference, {}).get(layers[-1]), by_layer.get(layers[-1])
            test = welch(ours, theirs) if name != reference and ours and theirs else None
            p_values.append(test[3] if test else math.nan)
            tested = (
                f"{reference} {test[0]:+.{decimals}f}, p {p_text(test[3])}" if test else "reference" if name == reference else "-"
            )
            rows.append([name, *cells, tested])
        for row, p in zip(rows, holm(p_values), strict=True):
            row.append(p_text(p))
        axis = f"layer: {', '.join(f'{i} {layer}' for i, layer in enumerate(layers))}"
        counted = " or ".join(f"{n:,}" for n in sorted(images[task]))
        picture = line_plot(f"{task}, by layer", series, axis, f"{task} ({'%' if task == 'category' else 'r'}, n = {counted})")
        header = ["experiment", *layers, "t-test at the last layer", "p, Holm"]
        yield {"task": f"{task} (n = {counted} test images)", "picture": picture, "table": Table(header, rows)}


def values(section: dict, numbers: Numbers, metrics: list[dict]) -> dict:
    """What comparison.html is filled in with; `metrics` are the contents of the evaluations' metrics.json."""
    sources = {row.source for row in numbers.rows} - {"training"}
    columns = [column for column in section["columns"] if column.split(".")[0] in sources]
    return {
        "title": section["title"] or section["study"],
        "seeds": section["seeds"],
        "results": study_table(section, numbers),
        "results_note": study_note(section, numbers),
        "told_apart_sentences": sentences(section, numbers),
        "tests_note": tests_note(section),
        **at_equal_costs(section, numbers, columns),
        "tests": [tests for column in columns if (tests := against_reference(section, numbers, column))],
        "readouts": list(readouts(section, metrics)),
    }
