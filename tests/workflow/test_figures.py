"""Every figure, drawn in a study; what is behind it agrees with the artifacts."""

import json
import shutil

import pytest
from PIL import Image

from invp.plugins import plugin_names

EXPERIMENT = "extends: smoke-invp\ntitle: Figures\nfigures: {FIGURES}\n"


@pytest.fixture(scope="module")
def drawn(finished, tmp_path_factory):
    """The finished smoke study with every figure of the folder."""
    project = finished.copy(tmp_path_factory.mktemp("figures") / "project")
    names = ", ".join(f"{name.replace('_', '-')}: {{}}" for name in plugin_names("figures"))
    (project.folder / "config/experiments/smoke-figures.yaml").write_text(EXPERIMENT.replace("FIGURES", names))
    study = "config/studies/all-figures.yaml"
    (project.folder / study).write_text("study: figures\nexperiments: [smoke-figures]\n")
    project.snakemake("all", study=study)
    return project


@pytest.mark.parametrize("name", plugin_names("figures"))
def test_a_figure_is_a_picture_with_its_data(name, drawn):
    folder = drawn.folder / "results/smoke-figures/seed-0/figures"
    image = Image.open(folder / f"{name.replace('_', '-')}.png").convert("L")
    assert min(image.size) > 150 and len(set(image.resize((200, 200)).tobytes())) > 10
    assert json.loads((folder / f"{name.replace('_', '-')}.json").read_text())["data"]


def data(project, name):
    return json.loads((project.folder / f"results/smoke-figures/seed-0/figures/{name}.json").read_text())["data"]


def test_what_is_behind_the_figures_agrees_with_the_artifacts(drawn):
    results = drawn.folder / "results/smoke-figures/seed-0"
    measures = json.loads((results / "graph/stage-2/summary.json").read_text())["measures"]
    assert data(drawn, "graph-measures")["2"] == measures
    overlap = data(drawn, "similarity-distributions")
    assert 0 < overlap["overlap"] < 1 and overlap["about"]["same class"]["mean"] > overlap["about"]["other classes"]["mean"]
    for density in overlap["densities"].values():
        assert sum(density) == pytest.approx(1)
    answers = data(drawn, "knn-answers")
    assert 30 < answers["accuracy"] < 100
    assert all((row["truth"] == row["answer"]) == (row["kind"] == "right") for row in answers["answers"])
    anchors = data(drawn, "positives")["anchors"]
    assert len(anchors) == 8 and all(1 <= p["steps"] <= 3 for row in anchors for p in row["positives"])
    shutil.rmtree(drawn.folder / "results/smoke-figures/seed-0/figures")
    assert drawn.planned(study="config/studies/all-figures.yaml")["figure"] == len(plugin_names("figures"))
