"""What pages are made of: the frame with its style, tables, pictures and line plots, all inside one HTML file."""

import base64
import html
import io
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from invp.plumbing.files import atomic_path

PALETTE = ("#0b6e6e", "#c8553d", "#6a4c93", "#e0a030", "#3d6fb4", "#7a8b3c", "#8c4a2f", "#5f6b73")
LINES = ("-", "--", ":")


ENVIRONMENT = Environment(loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined)


def template(name: str) -> str:
    """The text of a file in `templates`; whoever names one has it in the digest of its code."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def render(name: str, **values: object) -> str:
    """A template of `templates` filled in; text is escaped, and `Markup` is taken as HTML. A value that is missing is an error."""
    return ENVIRONMENT.get_template(name).render(**values)


def escaped(text: object) -> str:
    return html.escape(str(text))


def html_table(header: list[str], body: list[list[str]], best: bool = False) -> str:
    """An HTML table of words; with `best`, the largest leading number of each column is bold."""
    marked: set[tuple[int, int]] = set()
    if best and len(body) > 1:
        for column in range(len(header)):
            numbers = {i: number for i, row in enumerate(body) if (number := _leading_number(row[column])) is not None}
            if numbers and header[column] not in ("epochs", "seeds") and not header[column].startswith("training."):
                marked |= {(i, column) for i, n in numbers.items() if n == max(numbers.values())}
    lines = [f"<tr>{''.join(f'<th scope=col>{escaped(w)}</th>' for w in header)}</tr>"]
    for i, row in enumerate(body):
        cells = [
            f"<td>{'<b>' if (i, j) in marked else ''}{escaped(w)}{'</b>' if (i, j) in marked else ''}</td>"
            for j, w in enumerate(row)
        ]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<div class=scroll><table>{''.join(lines)}</table></div>"


def _leading_number(word: str) -> float | None:
    try:
        return float(word.split(" ")[0])
    except ValueError:
        return None


def picture(content: bytes, alternative: str) -> str:
    """A PNG inside the page."""
    return f'<img src="data:image/png;base64,{base64.b64encode(content).decode()}" alt="{escaped(alternative)}">'


def line_plot(series: dict[str, list[tuple]], x_label: str, y_label: str) -> str:
    """A small SVG of lines, a colour a series, inside the page; points are (x, y) or (x, y, standard deviation)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(4.6, 3.0), layout="constrained")
    for i, (label, points) in enumerate(series.items()):
        x, y, *deviation = zip(*points, strict=True)
        if deviation:
            axes.errorbar(x, y, deviation[0], fmt="none", ecolor=PALETTE[i % len(PALETTE)], alpha=0.6, capsize=2)
        axes.plot(
            x,
            y,
            label=label,
            color=PALETTE[i % len(PALETTE)],
            ls=LINES[i // len(PALETTE) % len(LINES)],
            lw=1.8,
            marker="o" if len(points) < 12 else None,
            ms=4,
        )
    if all(isinstance(point[0], int) for points in series.values() for point in points):
        axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, **({"fontsize": 8} if len(series) < 7 else {"fontsize": 6, "bbox_to_anchor": (1, 1)}))
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    svg = text.getvalue()
    return f'<figure role=img aria-label="{escaped(y_label)} against {escaped(x_label)}">{svg[svg.index("<svg") :]}</figure>'


def write_page(title: str, header: str, main: str, out: Path) -> None:
    """Writes a self-contained page: `header` below the project's name, then `main`, both HTML."""
    style = template("report.css")
    page = (
        f"<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>"
        f"<title>{escaped(title)}</title><style>{style}</style>"
        f"<header><p class=brand>Invariance Propagation</p>{header}</header><main>{main}</main></html>"
    )
    with atomic_path(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
