"""Put every metric of a study in one CSV, and make its tables over seeds."""

from invp.pages import published
from invp.pages.numbers import CSV_HEADER, read_numbers
from invp.pages.pairs import sentences, tests_note
from invp.pages.tables import (
    NOT_MADE,
    aligned,
    latex,
    markdown,
    markdown_text,
    not_made_table,
    one_line,
    study_note,
    study_table,
    write_csv,
)
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
    """Writes summary.csv, the study's table as text, Markdown and LaTeX, and the paper's with ours beside."""
    section, outputs = job.section, job.outputs
    numbers = read_numbers(section, job.inputs)
    rows = [numbers.as_line(number) for number in numbers.rows]
    rows += [
        {"experiment": e.experiment, "seed": e.seed, "stage": e.stage, "source": e.name, "not_made": e.reason} for e in job.not_made
    ]
    write_csv(outputs["csv"], [*CSV_HEADER, *(["not_made"] if job.not_made else [])], rows)
    metrics = [read_json(path) for path in job.inputs.get("metrics", [])]
    paper = published.read_published(job.input("published"))
    beside = published.tables_with_ours(section, paper, metrics)
    lines = [line for key, (_, rows) in beside.items() for line in published.csv_rows(key, rows)]
    write_csv(outputs["tables"], published.CSV_HEADER, lines)

    title, table, note = section["title"] or section["study"], study_table(section, numbers), study_note(section, numbers)
    said = sentences(section, numbers)
    said += [tests_note(section)] if said else []
    text = f"{one_line(title)}\n{aligned(table.header, table.rows)}{note}\n" + "".join(f"{one_line(each)}\n" for each in said)
    notes = [note, *map(markdown_text, said)]
    markdowns = ["\n".join([f"## {markdown_text(title)}\n", markdown(table.header, table.rows), *(f"{each}\n" for each in notes)])]
    latexes = [latex(table.header, table.rows) + "".join(f"% {one_line(each)}\n" for each in (note, *said))]
    for published_table, rows in beside.values():
        table = published.as_table(published_table, rows)
        markdowns.append(f"## {markdown_text(published_table['title'])}\n\n{markdown(table.header, table.rows)}")
        latexes.append(f"% {one_line(published_table['title'])}\n{latex(table.header, table.rows)}")
    for sentence in published.left_out(paper, beside, metrics):
        markdowns.append(f"{markdown_text(sentence)}\n")
        latexes.append(f"% {one_line(sentence)}\n")
    if job.not_made:
        table = not_made_table(job.not_made)
        text += f"{NOT_MADE}:\n{aligned(table.header, table.rows)}"
        markdowns.append(f"## {NOT_MADE}\n\n{markdown(table.header, table.rows)}")
        latexes.append(f"% {NOT_MADE}\n{latex(table.header, table.rows)}")
    for name, content in {"table": text, "markdown": "\n".join(markdowns), "latex": "\n".join(latexes)}.items():
        with atomic_path(outputs[name]) as temporary:
            temporary.write_text(content, encoding="utf-8")
