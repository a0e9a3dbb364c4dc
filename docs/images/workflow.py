"""Draws docs/images/workflow.svg: the rules of the workflow, and what each hands on.

`python docs/images/workflow.py` from the root writes it anew.
"""

from pathlib import Path

WIDE, HIGH = 150, 44  # of a box
BLUE, INK, GREY = "#1f6fb2", "#1c2128", "#5b6470"
# Rule -> where its box stands, in columns and rows, and what it makes.
RULES = {
    "prepare": (0, 1, "Arrow shards of a data set"),
    "pretrain": (1, 1, "a checkpoint of each stage"),
    "graph": (2, 0, "nearest rows, positives"),
    "features": (2, 1, "features of both splits"),
    "evaluate": (2, 2, "numbers of the encoder"),
    "explorer": (3, 0, "the graphs, to open"),
    "figure": (3, 1, "pictures with their data"),
    "summary": (3, 2, "tables"),
    "report": (4, 1, "the pages of the study"),
}
LINKS = (
    ("prepare", "pretrain"), ("pretrain", "graph"), ("pretrain", "features"), ("pretrain", "evaluate"), ("features", "evaluate"),
    ("graph", "explorer"), ("graph", "figure"), ("features", "figure"), ("evaluate", "summary"), ("explorer", "report"),
    ("figure", "report"), ("summary", "report"),
)  # fmt: skip
STEP_X, STEP_Y, MARGIN = WIDE + 40, HIGH + 42, 16


def corner(rule: str) -> tuple[int, int]:
    """The upper left corner of a rule's box, in pixels."""
    column, row, _ = RULES[rule]
    return MARGIN + column * STEP_X, MARGIN + row * STEP_Y


def arrow(start: str, end: str) -> str:
    """A line from one box to another, to the right or, within a column, down."""
    (x1, y1), (x2, y2) = corner(start), corner(end)
    if x1 == x2:
        x1, y1, x2 = x1 + WIDE // 2, y1 + HIGH, x2 + WIDE // 2
    else:
        x1, y1, y2 = x1 + WIDE, y1 + HIGH // 2, y2 + HIGH // 2
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{GREY}" stroke-width="1.4" marker-end="url(#tip)"/>'


def box(rule: str) -> str:
    """A rule's box with its name and what it makes."""
    x, y = corner(rule)
    return (
        f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="6" fill="#ffffff" stroke="{BLUE}" stroke-width="1.4"/>'
        f'<text x="{x + WIDE // 2}" y="{y + 18}" font-weight="bold">{rule}</text>'
        f'<text x="{x + WIDE // 2}" y="{y + 35}" font-size="10.5" fill="{GREY}">{RULES[rule][2]}</text>'
    )


def picture() -> str:
    """The picture as SVG."""
    width, height = 2 * MARGIN + 4 * STEP_X + WIDE, 2 * MARGIN + 2 * STEP_Y + HIGH
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="13" '
        f'text-anchor="middle" fill="{INK}">',
        "<title>The rules of the workflow, from a data set to the pages of a study</title>",
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="{GREY}"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        *(arrow(*link) for link in LINKS),
        *(box(rule) for rule in RULES),
        "</svg>\n",
    ]
    return "\n".join(parts)


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture())
