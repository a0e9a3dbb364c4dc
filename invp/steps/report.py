"""Make the self-contained pages of a study: the report, and the comparison of its experiments."""

from invp.pages import comparison, report
from invp.pages.numbers import rows_of
from invp.plumbing.files import read_json
from invp.plumbing.jobs import Job
from invp.steps import summary


def section(study: dict) -> dict:
    """What tables say of the study, and its descriptions."""
    descriptions = {name: options["description"] for name, options in study["loaded"].items()}
    return {**summary.section(study), "description": study["description"], "descriptions": descriptions}


def run(job: Job) -> None:
    """Writes both pages."""
    report.write(job.section, job.inputs, job.outputs["page"])
    metrics = [read_json(path) for path in job.inputs.get("metrics", [])]
    comparison.write(job.section, rows_of(job.section, job.inputs), metrics, job.outputs["comparison"])
