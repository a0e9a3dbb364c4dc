"""Tables of text, written plainly or as Markdown, LaTeX or CSV; what strangers named comes through unharmed."""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from invp.pages.numbers import Numbers, last_stage
from invp.pages.pairs import best_of
from invp.plumbing.files import atomic_path
from invp.plumbing.not_made import NotMade

NOT_MADE = "Not made, and in no number above"

# What CommonMark and GitHub take as markup; an underline between two letters or digits is none.
MARKDOWN = re.compile(r"[\\`*\[\]<>&|$~#]|(?<![^\W_])_|_(?![^\W_])")
LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "^": r"\textasciicircum{}", "~": r"\textasciitilde{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "`": r"\textasciigrave{}", "[": "{[}", "*": "{*}", "±": r"$\pm$",
})  # fmt: skip


@dataclass
class Table:
    """A header and rows of text, with the cells (row, column) set in bold, the rows set apart from published ones, and the column that
    names a row."""

    header: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]] = field(default_factory=set)
    ours: set[int] = field(default_factory=set)
    named: int = 0


def study_table(section: dict, numbers: Numbers) -> Table:
    """The study's table: an experiment a row, at its last stage; marked is what is ahead of all others of its column."""
    table = Table(["experiment", "objective", "epochs", "seeds"], [])
    for name in section["experiments"]:
        stage = last_stage(section, name)
        objective = section["loaded"][name]["objective"] if stage else "-"
        table.rows.append([name, objective, str(stage), str(len(section["seeds"]))])
    for column in section["columns"]:
        best = best_of(section, numbers, column)
        for number, (name, row) in enumerate(zip(section["experiments"], table.rows, strict=True)):
            if name == best:
                table.best.add((number, len(table.header)))
            row.append(numbers.text(name, last_stage(section, name), column))
        table.header.append(numbers.heading(column))
    return table


def study_note(section: dict, numbers: Numbers) -> str:
    """What the numbers of the study's table are, for the reader below it; of intervals only where the table has some."""
    seeds = len(section["seeds"])
    spread = "one seed: no spread is known" if seeds == 1 else f"mean ± standard deviation over {seeds} seeds"
    note = f"Last stage of each experiment; {spread}. Accuracies are in % of n test images, shares between 0 and 1."
    cells = ((name, last_stage(section, name), column) for name in section["experiments"] for column in section["columns"])
    if any(numbers.shared_by(*cell) for cell in cells):
        note += " In brackets: Wilson's 95 % interval over the test images, which says nothing about other seeds."
    return note


def not_made_table(not_made: list[NotMade]) -> Table:
    """The evaluations and figures that were not made, each with its reason."""
    rows = [[e.experiment, str(e.seed), "-" if e.stage is None else str(e.stage), e.name, e.reason] for e in not_made]
    return Table(["experiment", "seed", "epoch", "not made", "reason"], rows)


def one_line(text: str) -> str:
    """A text with its line breaks and other runs of blanks as single blanks."""
    return " ".join(text.split())


def markdown_text(text: str) -> str:
    """A text for a Markdown heading or table cell, in one line."""
    return MARKDOWN.sub(r"\\\g<0>", one_line(text))


def latex_text(text: str) -> str:
    """A text for LaTeX, in one line; letters beyond its fonts need LuaLaTeX or XeLaTeX and a font that has them."""
    return one_line(text).translate(LATEX).replace("--", "{-}{-}")  # two hyphens would become a dash


def aligned(header: list[str], rows: list[list[str]]) -> str:
    """A table in plain text with aligned columns."""
    lines = [[one_line(text) for text in row] for row in (header, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * width for width in widths])
    return "".join("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """A table in GitHub's Markdown."""
    lines = [[markdown_text(text) for text in row] for row in (header, *rows)]
    lines.insert(1, ["---"] * len(header))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(header: list[str], rows: list[list[str]]) -> str:
    """A table as a LaTeX tabular."""
    first, *rest = [" & ".join(map(latex_text, row)) + r" \\" for row in (header, *rows)]
    lines = [r"\begin{tabular}{" + "l" * len(header) + "}", r"\hline", first, r"\hline", *rest, r"\hline", r"\end{tabular}"]
    return "\n".join(lines) + "\n"


def write_csv(path: Path, header: list[str], rows: Iterable[dict]) -> None:
    """Writes rows by column name as CSV, atomically."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, header)
        writer.writeheader()
        writer.writerows(rows)
