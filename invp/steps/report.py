"""Make the self-contained pages of a study: the report, and the comparison of its experiments."""

from invp.pages import comparison, report
from invp.pages.html import write_page
from invp.pages.numbers import read_numbers
from invp.pages.robustness import evaluations_by_corruption
from invp.plumbing.files import read_json
from invp.plumbing.jobs import Job
from invp.steps import summary


def section(study: dict) -> dict:
    """What tables say of the study, its descriptions, and which of its evaluations see corrupted images."""
    descriptions = {name: options["description"] for name, options in study["loaded"].items()}
    own = {"description": study["description"], "descriptions": descriptions, "corrupted": evaluations_by_corruption(study)}
    return {**summary.section(study), **own}


def run(job: Job) -> None:
    """Writes both pages; links to each other and to explorers are the only ones that leave them."""
    numbers = read_numbers(job.section, job.inputs)
    metrics = [read_json(path) for path in job.inputs.get("metrics", [])]
    page = job.outputs["page"]
    write_page(page, "report.html", **report.values(job.section, job.inputs, numbers, page.parent, job.not_made))
    write_page(job.outputs["comparison"], "comparison.html", **comparison.values(job.section, numbers, metrics))
