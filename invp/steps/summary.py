"""Put every metric of a study in one CSV, and make its tables over seeds."""

import csv

from invp.pages import published
from invp.pages.numbers import HEADER, aligned, latex, markdown, note, rows_of, table
from invp.plumbing.files import atomic_path, read_json
from invp.plumbing.jobs import Job


def section(study: dict) -> dict:
    """What tables say of the study and of its experiments."""
    keys = ("study", "title", "columns", "reference", "experiments", "seeds")
    experiments = {
        name: {
            "title": options["title"],
            "objective": options["objective"]["name"],
            "objective_options": options["objective"],
            "encoder": options["encoder"]["name"],
            "head": options["head"]["kind"],
            "dataset": options["dataset_id"],
            "epochs": options["training"]["epochs"],
            "stages": options["stages"],
        }
        for name, options in study["loaded"].items()
    }
    return {**{key: study[key] for key in keys}, "loaded": experiments}


def run(job: Job) -> None:
    """Writes summary.csv, the study's table as text, Markdown and LaTeX, and the paper's tables with ours beside in tables.csv."""
    section, outputs = job.section, job.outputs
    rows = rows_of(section, job.inputs)
    metrics = [read_json(path) for path in job.inputs.get("metrics", [])]
    tables = published.read_published(job.input("published"))
    beside = published.tables_of(section, tables, metrics)
    with atomic_path(outputs["tables"]) as temporary, open(temporary, "w", newline="") as file:
        lines = csv.DictWriter(file, published.CSV_HEADER)
        lines.writeheader()
        for key, (_, own) in beside.items():
            lines.writerows(published.csv_rows(key, own))
    words = [(about["title"], *published.words_of(about, own)) for about, own in beside.values()]
    with atomic_path(outputs["csv"]) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, HEADER)
        writer.writeheader()
        writer.writerows(rows)
    header, body = table(section, rows)
    texts = {
        "table": f"{section['title'] or section['study']}\n{aligned(header, body)}{note(section)}\n",
        "markdown": f"## {section['title'] or section['study']}\n\n{markdown(header, body)}\n{note(section)}\n"
        + "".join(f"\n## {title}\n\n{markdown(head, lines)}" for title, head, lines in words),
        "latex": latex(header, body) + "".join(f"\n% {title}\n{latex(head, lines)}" for title, head, lines in words),
    }
    for name, text in texts.items():
        with atomic_path(outputs[name]) as temporary:
            temporary.write_text(text, encoding="utf-8")
