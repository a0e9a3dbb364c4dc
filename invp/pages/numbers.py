"""Every number of a study, and tables of mean and standard deviation over seeds."""

import json
import math
import statistics
from pathlib import Path

from invp.plumbing.files import read_json

HEADER = ["experiment", "seed", "stage", "source", "metric", "value"]


def rows_of(section: dict, inputs: dict[str, list[Path]]) -> list[dict]:
    """One row a number: of the inputs `metrics`, `graphs` (summaries) and `curves` (the last epoch of each stage)."""
    rows = []
    paths = [(name, path) for name in ("metrics", "graphs", "curves") for path in inputs.get(name, [])]
    for kind, path in paths:
        parts = path.parts
        seed = int(next(p for p in parts if p.startswith("seed-"))[5:])
        stage = int(next(p for p in parts if p.startswith("stage-"))[6:])
        base = {"experiment": parts[parts.index(f"seed-{seed}") - 1], "seed": seed, "stage": stage}
        if kind == "metrics":
            content = read_json(path)
            source, values = content["eval"], content["metrics"]
        elif kind == "graphs":
            source, values = "graph", read_json(path)["measures"]
        else:
            lines = path.read_text().splitlines()
            source, values = "training", json.loads(lines[-1]) if lines else {}
            values = {**values, "seconds": sum(json.loads(line)["seconds"] for line in lines)} if lines else {}
        for metric, value in values.items():
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                rows.append({**base, "source": source, "metric": metric, "value": value})
    _accumulate_seconds(rows)
    order = {name: i for i, name in enumerate(section["experiments"])}
    return sorted(rows, key=lambda r: (order[r["experiment"]], r["seed"], r["stage"], r["source"], r["metric"]))


def _accumulate_seconds(rows: list[dict]) -> None:
    """Turns the seconds of each stage's training into those from the beginning to the stage's end."""
    total: dict[tuple[str, int], float] = {}
    seconds = [r for r in rows if (r["source"], r["metric"]) == ("training", "seconds")]
    for row in sorted(seconds, key=lambda r: r["stage"]):
        run = row["experiment"], row["seed"]
        row["value"] = total[run] = total.get(run, 0.0) + row["value"]


def folded(rows: list[dict], experiment: str, column: str, stage: int) -> tuple[float, float, int] | None:
    """Mean, sample standard deviation (NaN for one seed) and number of seeds of `source.metric`; None if there is no such number."""
    source, metric = column.split(".", 1)
    values = [
        r["value"] for r in rows if (r["experiment"], r["stage"], r["source"], r["metric"]) == (experiment, stage, source, metric)
    ]
    return spread(values) if values else None


def spread(values: list[float]) -> tuple[float, float, int]:
    """Mean, sample standard deviation (NaN for one) and number of values."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else math.nan, len(values)


def cell(value: tuple[float, float, int] | None, plus: str = " ± ") -> str:
    """'98.33 ± 0.20', without a deviation for one seed, '-' for nothing; shares and losses get three digits, whole numbers none."""
    if value is None:
        return "-"
    mean, deviation, _ = value
    if mean == int(mean) and not deviation > 0:
        return str(int(mean))
    digits = 0 if abs(mean) >= 500 else 2 if abs(mean) >= 10 else 3
    return f"{mean:.{digits}f}" + ("" if math.isnan(deviation) else f"{plus}{deviation:.{digits}f}")


def table(section: dict, rows: list[dict]) -> tuple[list[str], list[list[str]]]:
    """The header and the rows of the study's table: an experiment a row, at its last stage."""
    columns = section["columns"]
    header = ["experiment", "objective", "epochs", "seeds", *columns]
    body = []
    for name in section["experiments"]:
        about = section["loaded"][name]
        stage = about["stages"][-1]
        values = [folded(rows, name, column, stage) for column in columns]
        objective = about["objective"] if stage else "-"
        body.append([name, objective, str(stage), str(len(section["seeds"])), *(cell(v) for v in values)])
    return header, body


def aligned(header: list[str], body: list[list[str]]) -> str:
    """A plain-text table with aligned columns."""
    widths = [max(len(row[i]) for row in [header, *body]) for i in range(len(header))]
    lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip() for row in [header, *body]]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]]) + "\n"


def markdown(header: list[str], body: list[list[str]]) -> str:
    """The same as a Markdown table."""
    rows = [header, ["---"] * len(header), *body]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def latex(header: list[str], body: list[list[str]]) -> str:
    """The same as a LaTeX tabular."""

    def row(words: list[str]) -> str:
        return " & ".join(w.replace("_", r"\_").replace("%", r"\%").replace("±", r"$\pm$") for w in words) + r" \\"

    lines = [r"\begin{tabular}{" + "l" * len(header) + "}", r"\hline", row(header), r"\hline", *map(row, body), r"\hline"]
    return "\n".join([*lines, r"\end{tabular}"]) + "\n"


def note(section: dict) -> str:
    """What the table's numbers are, for the reader below it."""
    n = len(section["seeds"])
    spread = "one seed: no spread is known" if n == 1 else f"mean ± standard deviation over n = {n} seeds"
    return f"Last stage of each experiment; {spread}; shares are between 0 and 1, the rest of the accuracies in %."
