"""Every figure, drawn in a study; what is behind it agrees with the artifacts.

The pictures of an objective are of another experiment than the rest, since InvP makes none, and so are the answers of a segmentation.
"""

import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from invp.core.clusters import kmeans
from invp.core.metrics import nearest_by_class
from invp.data.shards import Shards
from invp.data.tables import fixed_size_list, matrix
from invp.figures import class_maps, clusters, positives, scatter
from invp.figures._inputs import FigureInputs
from invp.figures._style import plotting
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load_study
from invp.plumbing.files import read_json, read_table, write_json, write_table
from invp.plumbing.jobs import Job
from invp.plumbing.plugins import constants, plugin_names
from invp.steps import figure as figure_step
from invp.steps import pretrain
from invp.training.checkpoint import load_checkpoint
from invp.training.objective import build_objective

STUDY = "config/studies/all-figures.yaml"
ELSEWHERE = [name for name in plugin_names("figures") if {"objective", "metrics"} & set(constants("figures", name)["NEEDS"])]
OF_PATCHES = [name for name in plugin_names("figures") if "encoder" in constants("figures", name)["NEEDS"]]
PICTURES = """
extends: digits-invp
title: Holes filled
encoder: {width: 8}
objective: {name: context_encoder, decoder_width: 8, num_blocks: 1}
head: {kind: linear, dimensions: 32}
training: {epochs: 2, batch_size: 128}
stages: [1, 2]
graph: {of: features, snapshot: false}
evaluations:
  knn: false
  linear: false
  pixelwise: {name: segmentation, dataset: {name: scenes, size: 48, train_images: 6, test_images: 4}, steps: 2, batch_size: 2, crop: 32, width: 8, pictures: 3}
figures: {training-curves: false, reconstructions: {images: 5}, segmentation: {}}
"""
PATCHES = """
extends: digits-invp
title: Patches
encoder: {name: vit_tiny, patch: 2, token_width: 24, depth: 1}
stages: [0]
graph: {snapshot: false}
evaluations: {knn: false, linear: false}
figures: {training-curves: false, attention: {}, patch-components: {label: 3}}
"""


def experiment_of(name: str) -> str:
    return "smoke-patches" if name in OF_PATCHES else "smoke-pictures" if name in ELSEWHERE else "smoke-invp"


@pytest.fixture(scope="module")
def drawn(finished, tmp_path_factory):
    """The finished smoke study with every figure of the folder."""
    project = finished.copy(tmp_path_factory.mktemp("figures") / "project")
    names = ", ".join(f"{name.replace('_', '-')}: {{}}" for name in plugin_names("figures") if experiment_of(name) == "smoke-invp")
    with open(project.folder / "config/experiments/smoke-invp.yaml", "a") as file:
        file.write(f"\nfigures: {{{names}}}\n")
    (project.folder / "config/experiments/smoke-pictures.yaml").write_text(PICTURES)
    (project.folder / "config/experiments/smoke-patches.yaml").write_text(PATCHES)
    (project.folder / STUDY).write_text("study: figures\nexperiments: [smoke-invp, smoke-pictures, smoke-patches]\n")
    project.snakemake("all", study=STUDY)
    return project


@pytest.mark.parametrize("name", plugin_names("figures"))
def test_a_figure_is_a_picture_with_its_data(name, drawn):
    folder = drawn.folder / f"results/{experiment_of(name)}/seed-0/figures"
    image = Image.open(folder / f"{name.replace('_', '-')}.png").convert("L")
    assert min(image.size) > 150 and len(set(image.resize((200, 200)).tobytes())) > 10
    assert json.loads((folder / f"{name.replace('_', '-')}.json").read_text())["data"]


NASTY = [
    "_starts with a line",
    "$_$ and $\\frac{$",
    "<!--<script>",
    "\"double\" 'single' & # %",
    "two\nlines",
    "tab\tand {braces} ^~",
    "Füchse 🦊 狐",
    "back\\slash",
    "x" * 120,
    " spaces ",
]
WITH_NAMES = ("class_maps", "knn_answers", "scatter")  # the figures that name classes


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")  # matplotlib's font has no fox
@pytest.mark.parametrize("name", plugin_names("figures"))
def test_names_of_strangers_come_through_a_figure(name, drawn, tmp_path, monkeypatch):
    """Of the title and of the classes; nothing is read as a formula or left out."""
    record = read_json(drawn.folder / f"results/{experiment_of(name)}/seed-0/figures/{name.replace('_', '-')}.record.json")
    for split in ("train", "test"):
        shutil.copytree(drawn.folder / f"results/datasets/digits/{split}", tmp_path / split)
        manifest = read_json(tmp_path / split / "manifest.json")
        write_json(tmp_path / split / "manifest.json", {**manifest, "classes": NASTY})
    inputs: dict = {}
    for key, entry in record["inputs"].items():
        key = key.split(".")[0]
        path = tmp_path / key.split("_")[1] / "manifest.json" if key.startswith("dataset_") else drawn.folder / entry["path"]
        inputs.setdefault(key, []).append(path)
    texts: list[str] = []
    figure_class = plotting().Figure
    save = figure_class.savefig

    def kept(figure, *arguments, **options):
        save(figure, *arguments, **options)
        texts.extend(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))

    monkeypatch.setattr(figure_class, "savefig", kept)
    section = {**record["section"], "title": "".join(NASTY)}
    figure_step.run(Job("figure", section, inputs, {"figure": tmp_path / "figure.png"}, "no code"))
    assert min(Image.open(tmp_path / "figure.png").size) > 150
    assert "".join(NASTY) in texts
    names = [" ".join(each.split())[:30] for each in NASTY]
    found = [name for name in names if any(name in text for text in texts if text != "".join(NASTY))]
    assert len(found) > 3 or name not in WITH_NAMES, texts


def data(project, name):
    return json.loads((project.folder / f"results/smoke-invp/seed-0/figures/{name}.json").read_text())["data"]


def test_the_pictures_are_those_of_the_checkpoint_and_of_the_test_images(drawn):
    """Made again from the checkpoint's tensors and the shards' bytes, by hand."""
    results = drawn.folder / "results/smoke-pictures/seed-0"
    record = read_json(results / "figures/reconstructions.record.json")
    assert {key.split(".")[0] for key in record["inputs"]} == {"checkpoint", "dataset_train", "dataset_test"}
    found = read_json(results / "figures/reconstructions.json")["data"]
    numbers = torch.tensor(found["images"])
    assert len(numbers) == 5 and len(set(found["images"])) == 5 and max(found["images"]) < 360
    images = Shards(drawn.folder / "results/datasets/digits/test").images(numbers).float().expand(-1, 3, -1, -1) / 255
    assert found["mean"]["input"] == pytest.approx(images.mean((1, 2, 3)).tolist(), abs=1e-6)
    study = load_study({"study": "s", "experiments": ["smoke-pictures"]}, "test", drawn.folder / "config/experiments")
    objective = build_objective(pretrain.section(study, experiment="smoke-pictures", seed=0, stage=2), 1437)
    state = load_checkpoint(results / "pretrain/stage-2/checkpoint.pt")["objective"]
    objective.load_state_dict(state)
    objective.eval()
    hole, _ = objective.holes(numbers, 0)
    normalised = (images - 0.305) / 0.376
    with torch.no_grad():
        made = objective.decoder(objective.head(objective.encoder(torch.where(hole, torch.zeros(()), normalised)))).clamp(0, 1)
    error = (hole * (made - images) ** 2).mean((1, 2, 3))
    assert found["error"]["reconstruction"] == pytest.approx(error.tolist(), rel=1e-4)
    assert min(found["error"]["reconstruction"]) > 0


def test_an_edit_of_a_figure_of_pictures_or_of_its_objective_draws_it_again(drawn, tmp_path):
    project = drawn.copy(tmp_path / "project")
    project.edit("invp/figures/reconstructions.py", "NEEDS =", "CHANGED = 1\nNEEDS =")
    assert project.planned(study=STUDY)["figure"] == 1
    project.edit("invp/figures/reconstructions.py", "CHANGED = 1\n", "")
    project.edit("invp/objectives/context_encoder.py", '"hole": ', '"seen": ')
    planned = project.planned(study=STUDY)
    # The answers of the segmentation too are of a network that is trained anew.
    assert planned["figure"] == 2 and planned["pretrain"] == 2


def test_what_is_behind_the_figures_agrees_with_the_artifacts(drawn):
    results = drawn.folder / "results/smoke-invp/seed-0"
    measures = json.loads((results / "graph/stage-2/summary.json").read_text())["measures"]
    assert data(drawn, "graph-measures")["2"] == measures
    overlap = data(drawn, "similarity-distributions")
    assert 0 < overlap["overlap"] < 1
    tested = read_table(results / "features/stage-2/digits-test.arrow")
    found = nearest_by_class(matrix(tested, "embedding"), tested["label"].to_numpy(), np.arange(360), 5)
    for name, values in zip(("same class", "other classes"), found, strict=True):
        assert (
            overlap["moments"][name]["mean"] == pytest.approx(values.mean(), abs=1e-5) and overlap["moments"][name]["pairs"] == 1800
        )
    for density in overlap["densities"].values():
        assert sum(density) == pytest.approx(1)
    answers = data(drawn, "knn-answers")
    assert 30 < answers["accuracy"] < 100
    assert all((row["truth"] == row["answer"]) == (row["kind"] == "right") for row in answers["answers"])
    ranks = data(drawn, "similarity-by-rank")
    table = read_table(results / "features/stage-2/digits-train.arrow")
    rows, labels = matrix(table, "embedding"), table["label"].to_numpy()
    similarities = rows @ rows.T - 3 * np.eye(len(rows))
    curve = ranks["similarity_by_rank"]["2"]
    assert np.allclose(curve, -np.sort(-similarities, 1)[:, : len(curve)].mean(0), atol=1e-4)
    nearest = np.argsort(-similarities, 1)[:, :10]
    assert ranks["neighbour_quality"]["2"] == pytest.approx((labels[nearest] == labels[:, None]).mean(), abs=1e-3)
    maps = data(drawn, "class-maps")
    accuracy = maps["accuracy"]
    assert min(accuracy[c] for c in maps["best"]["classes"]) >= max(accuracy[c] for c in maps["worst"]["classes"])
    assert len(maps["best"]["images"]) == len(maps["best"]["positions"]) > 30
    anchors = data(drawn, "positives")["anchors"]
    assert len(anchors) == 8 and all(1 <= p["steps"] <= 3 for row in anchors for p in row["positives"])
    for name in ("smoke-invp", "smoke-pictures", "smoke-patches"):
        shutil.rmtree(drawn.folder / f"results/{name}/seed-0/figures")
    assert drawn.planned(study=STUDY)["figure"] == len(plugin_names("figures"))


def test_a_class_of_two_kinds_is_found_to_split():
    generator = np.random.default_rng(0)
    centres = {0: [[1, 0, 0]], 1: [[0, 1, 0], [0, 0, 1]]}
    rows = np.concatenate([generator.normal(c, 0.05, (30, 3)) for own in centres.values() for c in own])
    labels = np.repeat([0, 1, 1], 30)
    label, own, clusters, score = class_maps.splitting(rows, labels, class_maps.Config(), 0)
    assert label == 1 and clusters.max() == 1 and score > 0.8
    kinds = own // 30
    assert len({(int(k), int(c)) for k, c in zip(kinds, clusters, strict=True)}) == 2
    assert class_maps.splitting(rows[:5], labels[:5], class_maps.Config(), 0) is None


def of_pixels(digits, folder, labelled: bool) -> FigureInputs:
    """Digits whose embeddings are their pixels, as the two figures below read them."""
    inputs = FigureInputs({"seed": 0, "title": "Pixels", "experiment": "pixels"}, dataset=digits)
    for split in ("train", "test"):
        shards = Shards(digits[split])
        rows = shards.images(torch.arange(shards.num_samples)).flatten(1).float()
        labels = pa.array(shards.labels.numpy(), pa.int32()) if labelled else pa.nulls(len(rows), pa.int32())
        columns = {"label": labels, "embedding": fixed_size_list(torch.nn.functional.normalize(rows, dim=1).numpy())}
        inputs.features[split] = folder / f"{split}.arrow"
        write_table(inputs.features[split], pa.table(columns), {})
    inputs.stage_features = {3: inputs.features["train"]}
    return inputs


def test_a_scatter_keeps_who_is_near_whom_and_says_what_it_does_not_keep(digits, tmp_path, monkeypatch):
    inputs = of_pixels(digits, tmp_path, labelled=True)
    below: list[str] = []
    monkeypatch.setattr(scatter, "save", lambda figure, *_: below.append(figure.get_supxlabel()))
    found, again, other = (
        scatter.draw(scatter.Config(images=80, classes=classes, perplexity=8, iterations=400), inputs, tmp_path)
        for classes in (4, 4, 3)
    )
    assert found == again and len(set(found["labels"])) == 4 and len(set(other["labels"])) == 3 and len(found["images"]) == 80
    assert Shards(digits["test"]).labels[found["images"]].tolist() == found["labels"]
    places, labels = np.array(found["places"]), np.array(found["labels"])
    distances = ((places[:, None] - places) ** 2).sum(2) + np.diag(np.full(80, np.inf))
    assert (labels[distances.argsort(1)[:, :3]] == labels[:, None]).mean() > 0.9
    assert below[0].startswith("80 of 360 test images, 4 of 10 classes\n") and "distances between islands" in below[0]
    with pytest.raises(UserError, match="perplexity is 80, of 80 images; valid: less than the images"):
        scatter.draw(scatter.Config(images=80, perplexity=80), inputs, tmp_path)


def test_contact_sheets_are_of_k_means_clusters_and_need_no_label(digits, tmp_path, monkeypatch):
    inputs = of_pixels(digits, tmp_path, labelled=False)
    found = clusters.draw(clusters.Config(num_clusters=6, shown=5, rows=3), inputs, tmp_path / "clusters.png")
    assert min(Image.open(tmp_path / "clusters.png").size) > 150
    rows = torch.from_numpy(matrix(read_table(inputs.features["train"]), "embedding").copy())
    expected = kmeans(rows, 6, seed=0)
    assert found["cluster"] == expected.cluster.tolist()
    sizes = torch.bincount(expected.cluster).sort(descending=True).values[:3].tolist()
    assert [row["size"] for row in found["shown"]] == sizes
    for row in found["shown"]:
        own = (expected.cluster == row["cluster"]).nonzero()[:, 0]
        assert row["near"] == own[expected.distance[own].argsort(stable=True)][:3].tolist()
        assert len(row["others"]) == 2 and set(row["others"]) < set(own.tolist()) - set(row["near"])
    labels = Shards(digits["train"]).labels.numpy()
    shares = [np.bincount(labels[np.array(found["cluster"]) == each]).max() for each in range(6)]
    assert sum(shares) / len(labels) > 0.5
    with pytest.raises(UserError, match="num_clusters is 2000, of 1437 images"):
        clusters.draw(clusters.Config(num_clusters=2000), inputs, tmp_path / "none.png")


def test_of_a_small_cluster_all_images_are_shown():
    near, others = clusters.chosen_of(np.array([2, 5, 7]), np.arange(9.0)[::-1], 6, np.random.default_rng(0))
    assert near.tolist() == [7, 5, 2] and others.tolist() == []


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([5, 6, 7, 8, 9], [0, 1, 7, 8, 9]),  # hard: the easiest of those left, the hardest of those taken
        ([2, 3, 4, 5, 6, 7, 8, 9], [0, 1, 7, 8, 9]),  # and not the most similar ones, which the loss takes too
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], [0, 6, 7, 8, 9]),
        ([0, 1, 2], [0, 1, 7, 8, 9]),  # easy
        ([9], [0, 1, 2, 3, 9]),
        (range(10), [0, 1, 7, 8, 9]),
    ],
)
def test_half_of_the_positives_drawn_are_those_that_the_loss_takes(taken, expected):
    similarity, order = np.linspace(1, 0, 10), np.random.default_rng(0).permutation(10)
    chosen = np.isin(np.arange(10), list(taken))
    assert order[positives.pairs_to_show(similarity[order], chosen[order], 5)].tolist() == expected
    assert sorted(positives.pairs_to_show(similarity[order], chosen[order], 30)) == list(range(10))
