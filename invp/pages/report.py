"""The values of the report: what was done, the tables, curves, graph measures, figures, costs, and how to repeat it."""

import os
from pathlib import Path

from invp.core.significance import decimals_of_share
from invp.data.tables import read_curves
from invp.pages import maps, published, robustness
from invp.pages.first_screen import dot_plots, dots_note, evidence, finding, main_column
from invp.pages.numbers import Numbers, estimate_of, last_stage, share_text
from invp.pages.pairs import sentences, tests_note
from invp.pages.plots import Picture, data_uri, evaluation_plot, line_plot
from invp.pages.tables import Table, not_made_table, study_note, study_table
from invp.plumbing.files import read_json
from invp.plumbing.not_made import NotMade

FIGURES = {
    "training-curves": "Losses and learning rate over the epochs",
    "graph-measures": "Measures of the graph over the stages",
    "similarity-distributions": "Similarities to nearest images of the same class and of others",
    "positives": "What the walk finds, and what of it the loss takes",
    "similarity-by-rank": "Similarity against rank, first and last stage",
    "knn-answers": "The images behind right and wrong kNN answers",
    "class-maps": "Classes of the highest and the lowest accuracy in two dimensions",
    "scatter": "Test images in two dimensions",
    "clusters": "Images of k-means clusters",
    "reconstructions": "What the objective makes of test images",
    "segmentation": "Test images, true masks and answers",
}
GRAPH_MEASURES = {
    "same_class_share": "same-class share of edges",
    "neighbour_quality": "neighbour quality (10 nearest)",
    "overlap_with_previous": "overlap with the stage before",
    "mutual_share": "share of mutual edges",
    "rankme": "RankMe of the graph's rows",
    "uniformity": "uniformity of the graph's rows",
}


def loss_plots(section: dict, inputs: dict[str, list[Path]]) -> list[Picture]:
    """Of each first seed the instance loss, which several objectives have in common; of other objectives the loss, in a plot of their own.

    A mark says after which epoch the weight of a second loss is whole.
    """
    shared: dict[str, list[tuple]] = {}
    others: dict[str, dict[str, list[tuple]]] = {}  # objective -> experiment -> points
    marks: dict[str, float] = {}
    for name in section["experiments"]:
        paths = [path for path in inputs.get("curves", []) if f"/{name}/seed-{section['seeds'][0]}/" in f"/{path}"]
        epochs = read_curves(paths)
        if not epochs:
            continue
        options = section["loaded"][name]["objective_options"]
        if "loss_instance" in epochs[0]:
            shared[name] = [(epoch["epoch"], epoch["loss_instance"]) for epoch in epochs]
            if options.get("ramp", "constant") != "constant" and 0 < options["ramp_epoch"] < epochs[-1]["epoch"]:
                marks[f"L_inv joins at full weight after epoch {options['ramp_epoch']}"] = options["ramp_epoch"]
        else:
            others.setdefault(options["name"], {})[name] = [(epoch["epoch"], epoch["loss"]) for epoch in epochs]
    seed = f"seed {section['seeds'][0]}"
    plots = (
        [line_plot(f"The instance loss that all share, {seed}", shared, "epoch", "instance loss, nats", marks)] if shared else []
    )
    return plots + [
        line_plot(f"The loss of {objective}, {seed}", series, "epoch", f"loss of {objective}")
        for objective, series in others.items()
    ]


def entropy_plots(section: dict, inputs: dict[str, list[Path]]) -> list[Picture]:
    """Of each first seed whose objective has a teacher the entropies by which a collapse shows: of its answers, and of a batch's mean answer."""
    plots = []
    for name in section["experiments"]:
        epochs = read_curves([path for path in inputs.get("curves", []) if f"/{name}/seed-{section['seeds'][0]}/" in f"/{path}"])
        if epochs and "teacher_entropy" in epochs[0]:
            lines = {
                "teacher_entropy": "of the teacher's answers",
                "batch_entropy": "of their mean (0: collapsed)",
                "kl": "divergence",
            }
            lines["uniform_loss"] = "log K (entropies there and no divergence: collapsed)"
            series = {words: [(epoch["epoch"], epoch[key]) for epoch in epochs] for key, words in lines.items()}
            title = f"Entropy of the teacher's answers, {name}, seed {section['seeds'][0]}"
            plots.append(line_plot(title, series, "epoch", "entropy, nats"))
    return plots


def graph_plots(section: dict, numbers: Numbers) -> list[Picture]:
    """Measures of the graphs of what was trained, over stages; one that equals another in all graphs has no plot of its own."""
    trained = [name for name in section["experiments"] if last_stage(section, name)]
    drawn: dict[str, dict[str, list[tuple]]] = {}
    for metric, label in GRAPH_MEASURES.items():
        series = {}
        for name in trained:
            estimates = {stage: numbers.estimate(name, stage, f"graph.{metric}") for stage in section["loaded"][name]["stages"]}
            if points := [(stage, estimate.mean) for stage, estimate in estimates.items() if estimate]:
                series[name] = points
        if series and series not in drawn.values():
            drawn[label] = series
    return [line_plot(f"{label[0].upper()}{label[1:]}", series, "epoch", label) for label, series in drawn.items()]


def graph_tables(section: dict, numbers: Numbers) -> list[tuple[str, Table]]:
    """Of each experiment with graphs the measures of these over seeds: a row a measure, a column a stage."""
    metrics, found = sorted({row.metric for row in numbers.rows if row.source == "graph"}), []
    for name in section["experiments"]:
        stages = section["loaded"][name]["stages"]
        rows = [
            [metric.replace("_", " "), *(numbers.text(name, stage, f"graph.{metric}") for stage in stages)] for metric in metrics
        ]
        if rows := [row for row in rows if set(row[1:]) != {"-"}]:
            found.append((name, Table(["measure", *(f"epoch {stage}" for stage in stages)], rows)))
    return found


def spelled_out(value: object) -> str:
    """A value of a protocol or of an evaluation's details as text."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(spelled_out, value))
    if isinstance(value, dict):
        return "; ".join(f"{key} {spelled_out(inner)}" for key, inner in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)


def score_text(key: str, value: object) -> str:
    """A cell of a table of scores by class: average precisions, in %, have two decimals; '-' for None."""
    return "-" if value is None else f"{value:.2f}" if "ap" in key and isinstance(value, float) else spelled_out(value)


def protocols(metrics: dict[Path, dict]) -> list[dict]:
    """What every evaluation's number means: each distinct protocol once, with the experiments and files that have it."""
    distinct: dict[tuple, dict] = {}
    for path, content in metrics.items():
        lines = tuple((name.replace("_", " "), spelled_out(value)) for name, value in content["protocol"].items())
        empty = {"evaluation": content["eval"], "lines": lines, "experiments": set(), "paths": []}
        protocol = distinct.setdefault((content["eval"], lines), empty)
        protocol["experiments"].add(content["experiment"])
        protocol["paths"].append(path)
    return [{**protocol, "experiments": sorted(protocol["experiments"])} for protocol in distinct.values()]


def class_accuracies(classes: list[str], confusion: list[list[int]]) -> list[dict]:
    """Of each class how many of its test images are right, and the share with Wilson's 95 % interval, as text."""
    result = []
    for number, (name, row) in enumerate(zip(classes, confusion, strict=False)):
        right, images = row[number], sum(row)
        accuracy = estimate_of([100 * right / images]) if images else None
        text = accuracy and share_text(accuracy, decimals_of_share(images), images)
        result.append({"class": name, "right of n": f"{right} of {images}", "accuracy in % [95 % interval]": text})
    return result


def evaluations(section: dict, metrics: list[dict]) -> list[dict]:
    """Of the first seed's evaluations at the last stage: the confusion of classes, the loss, and scores by class."""
    result = []
    for content in metrics:
        name, experiment, details = content["eval"], content["experiment"], content["details"]
        classes, confusion = details.get("classes", []), details.get("confusion")
        scores = details.get("average_precision") or class_accuracies(classes, confusion or [])
        first_and_last = content["seed"] == section["seeds"][0] and content["stage"] == last_stage(section, experiment)
        if not first_and_last or not (confusion or scores):
            continue
        header = list(scores[0]) if scores else []
        rows = [[score_text(key, score[key]) for key in header] for score in scores[:100]]
        title = f"Confusion of classes in {name} of {experiment}"
        picture = evaluation_plot(confusion, details.get("loss"), classes, title)
        caption = (
            f"Seed {content['seed']}, epoch {content['stage']}; n = {content['protocol'].get('test_images', '?')} test images."
        )
        result.append(
            {"experiment": experiment, "name": name, "picture": picture, "scores": Table(header, rows), "caption": caption}
        )
    return result


def cost_table(records: list[Path]) -> Table:
    """Time, memory and device of every pretraining stage, and the code that made it, from its record.json."""
    header = ["experiment", "seed", "to epoch", "seconds", "peak MB", "device", "threads", "commit", "code digest"]
    rows = []
    for path in records:
        record = read_json(path)
        section = record["section"]
        commit = (record["commit"] or "?")[:10] + ("" if record["clean"] else " + changes")
        rows.append([path.parts[-5], str(section["seed"]), str(section["stage"]), f"{record['seconds']:.1f}",
                     f"{record['peak_memory_mb']:.0f}", record["device"], str(record["threads"]), commit, record["code"]])  # fmt: skip
    return Table(header, rows)


def figure_pictures(section: dict, paths: list[Path]) -> list[Picture]:
    """The figures of the runs, results/EXPERIMENT/seed-SEED/figures/FIGURE.png, titled by what they show."""
    result = []
    for path in paths:
        experiment, seed, entry = path.parts[-4], path.parts[-3].replace("-", " "), path.stem
        figure = section["figures"].get(experiment, {}).get(entry, entry).replace("_", "-")
        title = f"{FIGURES.get(figure, figure.replace('-', ' '))}: {experiment}, {seed}"
        result.append(Picture(title, title, data_uri(path.read_bytes())))
    return result


def explorers(graphs: list[Path], folder: Path) -> list[dict]:
    """The runs whose graphs there are pages to look at, with the page's folder as seen from `folder`."""
    runs = sorted({path.parents[2] for path in graphs})
    return [{"folder": os.path.relpath(run, folder), "experiment": run.parts[-2], "seed": run.name} for run in runs]


def values(section: dict, inputs: dict[str, list[Path]], numbers: Numbers, folder: Path, not_made: list[NotMade]) -> dict:
    """What report.html is filled in with, for a page in `folder`; what is empty has no section in it."""
    metrics = {path: read_json(path) for path in inputs.get("metrics", [])}
    contents = list(metrics.values())
    (published_path,) = inputs["published"]
    paper = published.read_published(published_path)
    beside_ours = published.tables_with_ours(section, paper, contents)
    column = main_column(section, numbers)
    return {
        "title": section["title"] or section["study"],
        "study": section["study"],
        "description": section["description"],
        "seeds": section["seeds"],
        "finding": finding(section, numbers),
        "evidence": evidence(section, numbers, column) if column else "",
        "maps": maps.maps(section, inputs, numbers),
        "dot_plots": dot_plots(section, numbers),
        "dots_note": dots_note(section),
        "walks": maps.walks(section, inputs),
        "walks_note": maps.walks_note(inputs),
        "results": study_table(section, numbers),
        "results_note": study_note(section, numbers),
        "told_apart_sentences": sentences(section, numbers),
        "tests_note": tests_note(section),
        "not_made": not_made_table(not_made),
        "robustness": robustness.tables(section, numbers, contents),
        "published": [(table["title"], published.as_table(table, rows)) for table, rows in beside_ours.values()],
        "left_out": published.left_out(paper, beside_ours, contents),
        "descriptions": [
            (name, section["loaded"][name]["title"], section["descriptions"][name]) for name in section["experiments"]
        ],
        "curves": loss_plots(section, inputs) + entropy_plots(section, inputs) + graph_plots(section, numbers),
        "graph_measures": graph_tables(section, numbers),
        "explorers": explorers(inputs.get("graphs", []), folder),
        "figures": figure_pictures(section, inputs.get("figures", [])),
        "evaluations": evaluations(section, contents),
        "protocols": protocols(metrics),
        "costs": cost_table(inputs.get("checkpoints", [])),
    }


def overview(values: dict) -> dict:
    """What the index of a results folder says of the study, from the report's values."""
    keys = ("study", "title", "description", "finding", "evidence", "explorers")
    return {**{key: values[key] for key in keys}, "seeds": len(values["seeds"]), "experiments": len(values["descriptions"])}
