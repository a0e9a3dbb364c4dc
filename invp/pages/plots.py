"""Pictures that lie inside a page: line plots as SVG in the page's own colours, and the classes of an evaluation as PNG."""

import base64
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from invp.pages.tables import one_line

# The series' colours on white paper, which the colour-blind can tell apart; report.css has them as --series-1 and so on, and others on dark.
COLOURS = ("#0b6e6e", "#d9631e", "#693ca5", "#5a87ff", "#5a1e00", "#879669", "#2d2d5a", "#b478b4", "#963c0f", "#4b2d2d")
LINE_STYLES = ("-", "--", ":")
MARKERS = "osD^vPX*<>"  # a series has its own, beside its colour
MARKED = 8  # places along a line that have the marker
LEGEND_COLUMNS = 2
TOLD = 12  # series that an alternative text follows
LONGEST = 24  # letters of a class's name beside a picture, which would become small beside more


@dataclass
class Picture:
    """A picture: its title, which says what it shows; what is seen in it, for those who cannot; and an SVG element or a data URI."""

    title: str
    seen: str
    content: str


@contextmanager
def drawing() -> Iterator:
    """Gives matplotlib's pyplot, set so that names are drawn as they are and equal plots are equal text.

    Without it a `$` in a name would begin a formula.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    with matplotlib.rc_context({"text.parse_math": False, "svg.hashsalt": "invp", "svg.fonttype": "none"}):
        yield pyplot
        pyplot.close()


def data_uri(content: bytes, kind: str = "image/png") -> str:
    """A file as an address that holds it whole."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def in_page_colours(svg: str) -> Markup:
    """A drawing of matplotlib as an element of the page: it takes ink, grid and series' colours from the page's style, dark or light.

    Its own style would hold for the whole page, and its names of elements would come several times: both are left out.
    """
    svg = re.sub(r"<style.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r' id="[\w.]+_\d+"', "", svg)
    svg = re.sub(r"font(-family)?: ?([\d.]+px)?[^;\"]*'DejaVu Sans'[^;\"]*", lambda m: f"font-size: {m[2]}" if m[2] else "", svg)
    names = {"#000000": "currentColor", "#262626": "currentColor", "#b0b0b0": "var(--line)", "#5f6b73": "var(--soft)"}
    names |= {colour: f"var(--series-{number})" for number, colour in enumerate(COLOURS, 1)}
    return Markup(re.sub("|".join(names), lambda match: names[match[0]], svg))


def told(series: dict[str, list[tuple]]) -> str:
    """What a reader sees of lines: where each begins and where it ends."""
    parts = [
        f"{name} from {points[0][1]:.4g} to {points[-1][1]:.4g}" if len(points) > 1 else f"{name} {points[0][1]:.4g}"
        for name, points in list(series.items())[:TOLD]
    ]
    return "; ".join(parts + ([f"and {len(series) - TOLD} more"] if len(series) > TOLD else []))


def line_plot(
    title: str, series: dict[str, list[tuple]], x_label: str, y_label: str, marks: dict[str, float] | None = None
) -> Picture:
    """Lines, a colour and a marker a series, with their names below the axes, where they hide nothing; points are (x, y) or
    (x, y, below, above), the lengths of a bar and the edges of a band. `marks` are upright lines by what they say, each at its x."""
    with drawing() as pyplot:
        rows = -(-(len(series) + len(marks or {})) // LEGEND_COLUMNS)
        figure, axes = pyplot.subplots(figsize=(4.6, 2.8 + 0.2 * rows), layout="constrained")
        for i, (label, points) in enumerate(series.items()):
            colour = COLOURS[i % len(COLOURS)]
            style = LINE_STYLES[i // len(COLOURS) % len(LINE_STYLES)]
            x, y, *ends = zip(*points, strict=True)
            if ends:
                axes.errorbar(x, y, ends, fmt="none", ecolor=colour, alpha=0.6, capsize=2)
                low, high = (np.add(y, sign * np.array(end)) for sign, end in zip((-1, 1), ends, strict=True))
                axes.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
            every = max(1, len(points) // MARKED)
            marker = {"marker": MARKERS[i % len(MARKERS)], "ms": 4, "markevery": (min(i, every - 1), every)}
            axes.plot(x, y, label=label, color=colour, ls=style, lw=1.8, **marker)
        for i, (label, x) in enumerate((marks or {}).items()):
            axes.axvline(x, label=label, color="#5f6b73", lw=1, ls=LINE_STYLES[(i + 1) % len(LINE_STYLES)], zorder=0)
        places = sorted({point[0] for points in series.values() for point in points})
        if all(isinstance(x, int) for x in places):
            axes.xaxis.get_major_locator().set_params(integer=True)
            if len(places) < 5:
                axes.set_xticks(places)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.6)
        figure.legend(loc="outside lower center", ncols=LEGEND_COLUMNS, frameon=False, fontsize=8)
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None}, transparent=True)
    marked = f" Marked: {'; '.join(marks)}." if marks else ""
    return Picture(title, f"{y_label} against {x_label}: {told(series)}.{marked}", in_page_colours(text.getvalue()))


def evaluation_plot(confusion: list[list[int]] | None, loss: list[float] | None, classes: list[str], title: str) -> Picture | None:
    """How often each class is answered by each, as shares of the class, and the loss; None if there is neither."""
    panels = bool(confusion) + bool(loss)
    if not panels:
        return None
    seen = []
    with drawing() as pyplot:
        figure, axes = pyplot.subplots(1, panels, figsize=(3.4 * panels, 3.0), squeeze=False, layout="constrained")
        if confusion:
            seen.append(confusion_told(confusion, classes))
            shares = [[n / max(1, sum(row)) for n in row] for row in confusion]
            axes[0, 0].imshow(shares, cmap="Greens", vmin=0, vmax=1)
            axes[0, 0].set(xlabel="answer", ylabel="class")
            if 0 < len(classes) <= 20:
                names = [name if len(name) <= LONGEST else f"{name[:LONGEST]}…" for name in map(one_line, classes)]
                rotation = 90 if max(map(len, names)) > 2 else 0
                axes[0, 0].set_xticks(range(len(names)), names, fontsize=6, rotation=rotation)
                axes[0, 0].set_yticks(range(len(names)), names, fontsize=6)
        if loss:
            seen.append(f"the training loss goes from {loss[0]:.3g} to {loss[-1]:.3g}")
            axes[0, -1].plot(loss, color=COLOURS[0])
            axes[0, -1].set(xlabel="epoch or part", ylabel="training loss")
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=80)
    return Picture(title, f"{title}: {'; '.join(seen)}.", data_uri(file.getvalue()))


def confusion_told(confusion: list[list[int]], classes: list[str]) -> str:
    """What a reader sees of a confusion of classes: how many images lie on its diagonal, and its largest entry beside it."""
    counts = np.array(confusion)
    beside = counts - np.diag(np.diag(counts))
    words = f"{int(np.trace(counts))} of {int(counts.sum())} images are on the diagonal"
    if beside.max() <= 0:
        return words
    one, other = (
        classes[i] if i < len(classes) else f"class {i}" for i in map(int, np.unravel_index(beside.argmax(), beside.shape))
    )
    return f"{words}; most often confused: {int(beside.max())} of {one}, answered as {other}"
