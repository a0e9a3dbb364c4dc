"""Pictures that lie inside a page: line plots as SVG, and the classes of an evaluation as PNG."""

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from invp.pages.tables import one_line

COLOURS = ("#0b6e6e", "#c8553d", "#6a4c93", "#e0a030", "#3d6fb4", "#7a8b3c", "#8c4a2f", "#5f6b73")
LINE_STYLES = ("-", "--", ":")
LEGEND_COLUMNS = 2
LONGEST = 24  # letters of a class's name beside a picture, which would become small beside more


@dataclass
class Picture:
    """A picture and what it shows, for those who cannot see it; `content` is an SVG element, or a PNG in base64."""

    label: str
    content: str


@contextmanager
def drawing() -> Iterator:
    """Gives matplotlib's pyplot, set so that names are drawn as they are and equal plots are equal text.

    Without it a `$` in a name would begin a formula.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": "invp"}):
        yield pyplot
        pyplot.close()


def png(content: bytes, label: str) -> Picture:
    """A PNG file as a picture."""
    return Picture(label, base64.b64encode(content).decode())


def line_plot(series: dict[str, list[tuple]], x_label: str, y_label: str, marks: dict[str, float] | None = None) -> Picture:
    """Lines, a colour a series, with their names below the axes, where they hide nothing; points are (x, y) or (x, y, below, above),
    the lengths of a bar and the edges of a band. `marks` are upright lines by what they say, each at its x."""
    with drawing() as pyplot:
        rows = -(-(len(series) + len(marks or {})) // LEGEND_COLUMNS)
        figure, axes = pyplot.subplots(figsize=(4.6, 2.8 + 0.2 * rows), layout="constrained")
        for i, (label, points) in enumerate(series.items()):
            colour = COLOURS[i % len(COLOURS)]
            style = LINE_STYLES[i // len(COLOURS) % len(LINE_STYLES)]
            marker = "o" if len(points) < 12 else None
            x, y, *ends = zip(*points, strict=True)
            if ends:
                axes.errorbar(x, y, ends, fmt="none", ecolor=colour, alpha=0.6, capsize=2)
                low, high = (np.add(y, sign * np.array(end)) for sign, end in zip((-1, 1), ends, strict=True))
                axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
            axes.plot(x, y, label=label, color=colour, ls=style, lw=1.8, marker=marker, ms=4)
        for i, (label, x) in enumerate((marks or {}).items()):
            axes.axvline(x, label=label, color="#5f6b73", lw=1, ls=LINE_STYLES[(i + 1) % len(LINE_STYLES)], zorder=0)
        places = sorted({point[0] for points in series.values() for point in points})
        if all(isinstance(x, int) for x in places):
            axes.xaxis.get_major_locator().set_params(integer=True)
            if len(places) < 5:
                axes.set_xticks(places)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=8)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = text.getvalue()
    return Picture(f"{y_label} against {x_label}", Markup(svg[svg.index("<svg") :]))


def evaluation_plot(confusion: list[list[int]] | None, loss: list[float] | None, classes: list[str], label: str) -> Picture | None:
    """How often each class is answered by each, as shares of the class, and the loss; None if there is neither."""
    panels = bool(confusion) + bool(loss)
    if not panels:
        return None
    with drawing() as pyplot:
        figure, axes = pyplot.subplots(1, panels, figsize=(3.4 * panels, 3.0), squeeze=False, layout="constrained")
        if confusion:
            shares = [[n / max(1, sum(row)) for n in row] for row in confusion]
            axes[0, 0].imshow(shares, cmap="Greens", vmin=0, vmax=1)
            axes[0, 0].set(xlabel="answer", ylabel="class")
            if 0 < len(classes) <= 20:
                names = [name if len(name) <= LONGEST else f"{name[:LONGEST]}…" for name in map(one_line, classes)]
                rotation = 90 if max(map(len, names)) > 2 else 0
                axes[0, 0].set_xticks(range(len(names)), names, fontsize=6, rotation=rotation)
                axes[0, 0].set_yticks(range(len(names)), names, fontsize=6)
        if loss:
            axes[0, -1].plot(loss, color=COLOURS[0])
            axes[0, -1].set(xlabel="epoch or part", ylabel="training loss")
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=80)
    return png(file.getvalue(), label)
