"""An evaluation and a figure that their data do not allow: with `on_error: report` they cost nothing but themselves."""

import csv
import json

import pytest
from PIL import Image

STUDY, PAGES, RUN = "config/studies/partly.yaml", "results/studies/partly", "results/smoke-invp/seed-0"
# No class of the digits has 200 test images. The figure `scores` reads the metrics of all evaluations.
TEXT = """\
study: partly
experiments: [smoke-invp]
on_error: report
columns: [knn.top1, too-few.overlap]
evaluations: {too-few: {name: embedding_statistics, neighbours: 200}}
figures: {similarity-distributions: {neighbours: 200}, scores: {}}
"""
SCORES = '''\
"""The evaluations of a run, by name."""

from dataclasses import dataclass

from PIL import Image

NEEDS = ("metrics",)


@dataclass
class Config:
    """No options."""


def draw(config, inputs, out):
    """Draws nothing; returns the names."""
    Image.new("RGB", (10, 10)).save(out, "png")
    return [content["eval"] for content in inputs.metrics]
'''
METRICS, FIGURE = f"{RUN}/evals/too-few/stage-2/metrics.json", f"{RUN}/figures/similarity-distributions.png"
REASONS = ("no test image has 200 others", "similarity_distributions needs 200 more test images")
PAGES_RUN = {"summary": 1, "report": 1}


@pytest.fixture(scope="module")
def reported(finished, tmp_path_factory):
    """The finished study's experiment in a study with `report`, run whole; what it printed is kept."""
    project = finished.copy(tmp_path_factory.mktemp("partly") / "project")
    (project.folder / STUDY).write_text(TEXT)
    (project.folder / "invp/figures/scores.py").write_text(SCORES)
    project.printed = project.snakemake("all", study=STUDY)
    return project


def test_what_cannot_be_made_is_listed_and_all_else_is_made(reported):
    pages = {name: (reported.folder / PAGES / name).read_text() for name in ("summary.txt", "summary.md", "report.html")}
    for name, text in {**pages, "printed": reported.printed}.items():
        assert all(reason in text for reason in REASONS), name
    rows = list(csv.DictReader((reported.folder / PAGES / "summary.csv").open()))
    assert [row["source"] for row in rows if row["not_made"]] == ["too-few", "similarity-distributions"]
    assert {row["source"] for row in rows if not row["not_made"]} == {"graph", "knn", "linear", "training"}
    assert json.loads((reported.folder / METRICS).read_text())["metrics"] == {}
    assert json.loads((reported.folder / RUN / "figures/scores.json").read_text())["data"] == ["knn", "linear"]
    assert (
        Image.open(reported.folder / FIGURE).size == (240, 60)
        and pages["report.html"].count(": smoke-invp, seed 0</figcaption>") == 2
    )
    log = reported.folder / "results/logs/evaluate/smoke-invp-seed-0-too-few-stage-2.log"
    assert "not made: no test image has 200 others" in log.read_text()


def test_it_is_whole_for_the_workflow_and_for_tools(reported):
    assert reported.planned(study=STUDY) == {} and "0 faults" in reported.invp("verify")
    assert "not made     no test image has 200 others" in reported.invp("why", METRICS)


def test_with_stop_it_is_tried_again_and_fails_alone_and_mended_it_is_made(reported, tmp_path):
    project = reported.copy(tmp_path / "project")
    project.edit(STUDY, "on_error: report\n", "")
    assert project.planned(study=STUDY) == {"evaluate": 1, "figure": 2, **PAGES_RUN}  # the figure `scores` reads the metrics
    assert "Nothing to be done" in project.snakemake("pretrain_all", "-n", study=STUDY)
    words = project.snakemake("all", study=STUDY, expect=1)
    assert all(f"error: {reason}" in words for reason in REASONS) and "Traceback" not in words and "report:" not in words
    assert not (project.folder / METRICS).exists() and not (project.folder / FIGURE).exists()

    project.edit(STUDY, "evaluations:", "on_error: report\nevaluations:")
    for _ in REASONS:
        project.edit(STUDY, "neighbours: 200", "neighbours: 5")
    words = project.snakemake("all", study=STUDY)
    assert "Not made" not in words and "too-few.overlap" in words
    assert "not_made" not in (project.folder / PAGES / "summary.csv").read_text()
    assert json.loads((project.folder / METRICS).read_text())["metrics"]["overlap"] > 0
    # What was made is the same whatever the study says of what is not.
    project.edit(STUDY, "on_error: report\n", "")
    assert project.planned(study=STUDY) == PAGES_RUN
    assert "0 faults" in project.invp("verify")


def test_a_crash_fails_and_code_that_may_mend_it_is_not_adopted_away(reported, tmp_path):
    project = reported.copy(tmp_path / "project")
    project.edit("invp/evals/embedding_statistics.py", "NEEDS =", "CHANGED = 1\nNEEDS =")
    words = project.invp("adopt", METRICS)
    assert "other code may make them" in words and METRICS.replace("metrics", "record") in words
    assert project.planned(study=STUDY)["evaluate"] == 1
    with open(project.folder / "invp/evals/embedding_statistics.py", "a") as file:
        file.write('\n\ndef evaluate(*arguments, **options):\n    raise MemoryError("all of it")\n')
    words = project.snakemake(METRICS, study=STUDY, expect=1)
    assert "MemoryError: all of it" in words and not (project.folder / METRICS).exists()
