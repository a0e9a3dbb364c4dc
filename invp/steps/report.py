"""Make the self-contained pages of a study: the report, and the comparison of its experiments."""

from invp.pages import comparison, report
from invp.pages.html import write_page
from invp.pages.numbers import read_numbers
from invp.plumbing.files import read_json
from invp.plumbing.jobs import Job
from invp.steps import summary


def section(study: dict) -> dict:
    """What tables say of the study, and its descriptions."""
    descriptions = {name: options["description"] for name, options in study["loaded"].items()}
    return {**summary.section(study), "description": study["description"], "descriptions": descriptions}


def run(job: Job) -> None:
    """Writes both pages; links to each other and to explorers are the only ones that leave them."""
    numbers = read_numbers(job.section, job.inputs)
    metrics = [read_json(path) for path in job.inputs.get("metrics", [])]
    page = job.outputs["page"]
    write_page(page, "report.html", **report.values(job.section, job.inputs, numbers, page.parent, job.not_made))
    write_page(job.outputs["comparison"], "comparison.html", **comparison.values(job.section, numbers, metrics))
