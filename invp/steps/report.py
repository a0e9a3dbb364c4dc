"""Make the self-contained pages of a study: the report, and the comparison of its experiments."""

from invp.pages import comparison, report
from invp.pages.html import write_page
from invp.pages.numbers import read_numbers
from invp.pages.robustness import evaluations_by_corruption
from invp.plumbing.files import read_json, write_json
from invp.plumbing.jobs import Job
from invp.steps import summary


def pictured(study: dict) -> list[tuple[str, int]]:
    """The graphs on the first screen, each an experiment and a stage: before training, if there is one, and after it.

    After it is the last stage of the study's reference, or of the first other experiment that keeps its graphs; before it the same
    network untrained, or its first stage. [] if no graph is kept.
    """
    loaded, first = study["loaded"], study["reference"] or study["experiments"][0]
    kept = [name for name in [first, *study["experiments"]] if loaded[name]["graph"]["snapshot"]]
    if not kept:
        return []
    name, stages = kept[0], loaded[kept[0]]["stages"]
    untrained = [other for other in kept if loaded[other]["stages"] == [0] and _network(loaded[other]) == _network(loaded[name])]
    before = [(untrained[0], 0)] if untrained and stages != [0] else [(name, stages[0])] if len(stages) > 1 else []
    return [*before, (name, stages[-1])]


def _network(options: dict) -> tuple:
    return options["dataset_id"], options["encoder"], options["head"]


def section(study: dict) -> dict:
    """What tables say of the study, its descriptions and figures, and which of its evaluations see corrupted images."""
    loaded = study["loaded"]
    own = {
        "description": study["description"],
        "descriptions": {name: options["description"] for name, options in loaded.items()},
        "pictured": pictured(study),
        "corrupted": evaluations_by_corruption(study),
        "figures": {name: {entry: own["name"] for entry, own in options["figures"].items()} for name, options in loaded.items()},
    }
    return {**summary.section(study), **own}


def run(job: Job) -> None:
    """Writes both pages, whose links to each other and to explorers are the only ones that leave them, and what the index says of them."""
    numbers = read_numbers(job.section, job.inputs)
    metrics = [read_json(path) for path in job.inputs.get("metrics", [])]
    page = job.outputs["page"]
    values = report.values(job.section, job.inputs, numbers, page.parent, job.not_made)
    write_page(page, "report.html", **values)
    write_page(job.outputs["comparison"], "comparison.html", **comparison.values(job.section, numbers, metrics))
    write_json(job.outputs["overview"], report.overview(values))
