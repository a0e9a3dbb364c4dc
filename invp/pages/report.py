"""The study as one self-contained HTML page: what was done, the tables, curves, graph measures, figures, costs, and how to repeat it."""

import io
import math
import os
from pathlib import Path

from invp.data.tables import read_curves
from invp.pages import published
from invp.pages.html import PALETTE, escaped, html_table, line_plot, picture, write_page
from invp.pages.numbers import cell, folded, note, rows_of, table
from invp.plumbing.files import read_json


def curves_of(section: dict, inputs: dict[str, list[Path]]) -> dict[str, list[dict]]:
    """The epochs of each experiment's first seed."""
    seed = section["seeds"][0]
    result = {}
    for name in section["experiments"]:
        paths = [p for p in inputs.get("curves", []) if f"/{name}/seed-{seed}/" in f"/{p}"]
        if rows := read_curves(paths):
            result[name] = rows
    return result


def curve_plots(section: dict, inputs: dict[str, list[Path]], rows: list[dict]) -> str:
    """Loss over epochs; graph measures over stages."""
    curves = curves_of(section, inputs)
    if not curves:
        return ""
    plots = [line_plot({n: [(r["epoch"], r["loss"]) for r in c] for n, c in curves.items()}, "epoch", "training loss")]
    wanted = {
        "same_class_share": "same-class share of edges",
        "neighbour_quality": "neighbour quality (10 nearest)",
        "overlap_with_previous": "overlap with the stage before",
        "mutual_share": "share of mutual edges",
    }
    for metric, label in wanted.items():
        series = {}
        for name in curves:
            stages = section["loaded"][name]["stages"]
            points = [(s, v[0]) for s in stages if (v := folded(rows, name, f"graph.{metric}", s))]
            if points:
                series[name] = points
        if series:
            plots.append(line_plot(series, "epoch", label))
    return f"<div class=plots>{''.join(plots)}</div>"


def stage_table(section: dict, rows: list[dict]) -> str:
    """The graph's measures by experiment and stage, folded over seeds."""
    metrics = sorted({r["metric"] for r in rows if r["source"] == "graph"})
    body = []
    for name in section["experiments"]:
        for stage in section["loaded"][name]["stages"]:
            values = [folded(rows, name, f"graph.{m}", stage) for m in metrics]
            if any(values):
                body.append([name, str(stage), *map(cell, values)])
    return html_table(["experiment", "epoch", *(m.replace("_", " ") for m in metrics)], body) if body else ""


def protocol_cards(metrics: dict[Path, dict]) -> str:
    """What every evaluation's number means: one card for each distinct protocol of the contents of metrics.json by path."""
    cards: dict[str, list[tuple[str, Path]]] = {}
    for path, content in metrics.items():
        lines = "".join(
            f"<dt>{escaped(k.replace('_', ' '))}</dt><dd>{escaped(_words(v))}</dd>" for k, v in content["protocol"].items()
        )
        cards.setdefault(f"<h3>{escaped(content['eval'])}</h3><dl>{lines}</dl>", []).append((content["experiment"], path))
    parts = []
    for card, made in cards.items():
        names = ", ".join(sorted({name for name, _ in made}))
        again = "".join(f"<br><code>snakemake --profile profiles/local {escaped(path)}</code>" for _, path in made[:3])
        more = f"<br>and {len(made) - 3} more of this protocol" if len(made) > 3 else ""
        parts.append(
            f"<details class=card><summary>{escaped(card[4 : card.index('</h3>')])}: {escaped(names)}</summary>{card}"
            f"<p class=note>To repeat it, with the study's --configfile:{again}{more}</p></details>"
        )
    return "".join(parts)


def _words(value: object) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    if isinstance(value, dict):
        return "; ".join(f"{k} {_words(v)}" for k, v in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def cost_table(inputs: dict[str, list[Path]]) -> str:
    """Time, speed's device and memory of every pretraining stage, with the commit and the command's log."""
    body = []
    for path in inputs.get("checkpoints", []):
        record = read_json(path)
        section = record["section"]
        commit = (record["commit"] or "?")[:10] + ("" if record["clean"] else " + changes")
        body.append([path.parts[-5], str(section["seed"]), str(section["stage"]), f"{record['seconds']:.1f}",
                     f"{record['peak_memory_mb']:.0f}", record["device"], str(record["threads"]), commit, record["code"]])  # fmt: skip
    return html_table(["experiment", "seed", "to epoch", "seconds", "peak MB", "device", "threads", "commit", "code digest"], body)


def figures_of(inputs: dict[str, list[Path]]) -> str:
    parts = []
    for path in inputs.get("figures", []):
        name, seed, figure = path.parts[-4], path.parts[-3], path.stem
        label = f"{figure.replace('-', ' ').replace('_', ' ')}: {name}, {seed.replace('-', ' ')}"
        parts.append(f"<figure>{picture(path.read_bytes(), label)}<figcaption>{escaped(label)}</figcaption></figure>")
    return f"<div class=figures>{''.join(parts)}</div>" if parts else ""


def explorer_links(section: dict, out: Path, inputs: dict[str, list[Path]]) -> str:
    runs = sorted({path.parents[2] for path in inputs.get("graphs", [])})
    links = [
        f'<li><a href="{escaped(os.path.relpath(run / "explorer.html", out.parent))}">{escaped(run.parts[-2])}, {escaped(run.name)}</a></li>'
        for run in runs
    ]
    return f"<ul>{''.join(links)}</ul>"


def evaluation_details(section: dict, metrics: list[dict]) -> str:
    """Of the first seed's evaluations at the last stage: the confusion of classes, scores by class and the loss, folded away."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    parts = []
    for content in metrics:
        details, classes = content["details"], content["details"].get("classes", [])
        last = section["loaded"][content["experiment"]]["stages"][-1]
        confusion = details.get("confusion")
        scores = details.get("average_precision") or [
            {"class": n, "accuracy": v} for n, v in zip(classes, details.get("accuracy_by_class", []), strict=False)
        ]
        if (content["seed"], content["stage"]) != (section["seeds"][0], last) or not (confusion or scores):
            continue
        drawn = [name for name, wanted in (("confusion", confusion), ("loss", details.get("loss"))) if wanted]
        images = ""
        if drawn:
            figure, panels = pyplot.subplots(1, len(drawn), figsize=(3.4 * len(drawn), 3.0), squeeze=False, layout="constrained")
            for axes, name in zip(panels[0], drawn, strict=True):
                if name == "loss":
                    axes.plot(details["loss"], color=PALETTE[0])
                    axes.set(xlabel="epoch or part", ylabel="training loss")
                    continue
                shares = [[n / max(1, sum(row)) for n in row] for row in confusion]
                axes.imshow(shares, cmap="Greens", vmin=0, vmax=1)
                axes.set(xlabel="answer", ylabel="class")
                if len(classes) <= 20:
                    axes.set_xticks(range(len(classes)), classes, fontsize=6, rotation=90 if max(map(len, classes)) > 2 else 0)
                    axes.set_yticks(range(len(classes)), classes, fontsize=6)
            data = io.BytesIO()
            figure.savefig(data, format="png", dpi=80)
            pyplot.close(figure)
            words = f"Confusion of classes in {content['eval']} of {content['experiment']}"
            images = picture(data.getvalue(), words)
        header = list(scores[0]) if scores else []
        body = [["-" if row[k] is None else _words(row[k]) for k in header] for row in scores[:100]]
        parts.append(
            f"<details class=card><summary>{escaped(content['experiment'])}, {escaped(content['eval'])}</summary>{images}"
            f"{html_table(header, body) if body else ''}</details>"
        )
    return "".join(parts)


def published_tables(section: dict, tables: dict, metrics: list[dict]) -> str:
    """The paper's tables, ours below the published rows."""
    parts = []
    for about, rows in published.tables_of(section, tables, metrics).values():
        header, body = published.words_of(about, rows)
        lines = [f"<tr>{''.join(f'<th scope=col>{escaped(w)}</th>' for w in header)}</tr>"]
        for row, words in zip(rows, body, strict=True):
            lines.append(f"<tr{' class=ours' if row.ours else ''}>{''.join(f'<td>{escaped(w)}</td>' for w in words)}</tr>")
        parts.append(
            f"<details><summary>{escaped(about['title'])}</summary><div class=scroll><table>{''.join(lines)}</table></div></details>"
        )
    if not parts:
        return ""
    return (
        "".join(parts)
        + "<p class=note>A difference is given only where our number is of the same data set; the last column says what else differs.</p>"
    )


def facts(section: dict, rows: list[dict]) -> str:
    """The study in one paragraph, from its own numbers."""
    column = section["columns"][0]
    scored = []
    for name in section["experiments"]:
        value = folded(rows, name, column, section["loaded"][name]["stages"][-1])
        if value and not math.isnan(value[0]):
            scored.append((value[0], name, cell(value)))
    if not scored:
        return ""
    scored.sort(reverse=True)
    ranking = "; ".join(f"{escaped(name)} <b>{escaped(text)}</b>" for _, name, text in scored)
    return f"<p class=lead>{escaped(column)} at the last stage: {ranking}.</p>"


def write(section: dict, inputs: dict[str, list[Path]], out: Path) -> None:
    """Writes the page; links to the comparison and to explorers are the only ones that leave it."""
    metrics = {path: read_json(path) for path in inputs.get("metrics", [])}
    contents = list(metrics.values())
    tables = published.read_published(inputs["published"][0])
    rows = rows_of(section, inputs)
    header, body = table(section, rows)
    titles = "".join(
        f"<dt>{escaped(n)}</dt><dd>{escaped(t)}</dd>" for n in section["experiments"] for t in [section["descriptions"][n]]
    )
    parts = {
        "Results": html_table(header, body, best=True)
        + f"<p class=note>{escaped(note(section))}</p>"
        + "<p><a href=comparison.html>Compare the experiments</a>: against views and time, and tests over seeds.</p>",
        "Beside the paper": published_tables(section, tables, contents),
        "Experiments": f"<dl>{titles}</dl>",
        "Learning and graphs over the stages": curve_plots(section, inputs, rows) + stage_table(section, rows),
        "Neighbour graphs to look at": explorer_links(section, out, inputs),
        "Figures": figures_of(inputs),
        "Confusion and scores by class": evaluation_details(section, contents),
        "What each number means": protocol_cards(metrics),
        "Cost and origin of each stage": cost_table(inputs),
        "To repeat it": f"<p><code>snakemake --profile profiles/local all</code> at the commit above makes every number here; "
        f"each artifact's <code>record.json</code> holds its section, inputs, versions and command. "
        f"<code>python -m invp verify results</code> checks them.</p><p>Study: {escaped(section['study'])}; "
        f"seeds {escaped(', '.join(map(str, section['seeds'])))}.</p>",
    }
    title = section["title"] or section["study"]
    main = "".join(f"<section><h2>{escaped(name)}</h2>{content}</section>" for name, content in parts.items() if content)
    top = f"<h1>{escaped(title)}</h1><p>{escaped(section['description'])}</p>{facts(section, rows)}"
    write_page(f"{title} - Invariance Propagation", top, main, out)
