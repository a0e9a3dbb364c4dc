"""Images without labels go through everything that needs none."""

import csv

from PIL import Image
from sklearn.datasets import load_digits

EXPERIMENT = """\
extends: smoke-invp
title: Photographs without labels
dataset: {name: image_folder, folder: photos}
evaluations: {ranks: {viewed: 16, views: 3}}
figures: {class-maps: {}, clusters: {num_clusters: 4}}
training: {epochs: 1}
objective: {ramp_epoch: 0, num_negatives: 150}
stages: [1]
"""


def test_a_folder_of_unlabelled_photographs_is_pretrained_on_and_reported(new_project, tmp_path):
    folder = tmp_path / "data" / "photos" / "train"
    folder.mkdir(parents=True)
    for i, image in enumerate(load_digits().images[:300]):
        Image.fromarray((image * 15).astype("uint8")).resize((20, 16)).convert("RGB").save(folder / f"{i:03d}.png")
    (new_project.folder / "config/experiments/photos-invp.yaml").write_text(EXPERIMENT)
    study = "config/studies/photos.yaml"
    (new_project.folder / study).write_text("study: photos\nexperiments: [photos-invp]\ncolumns: [ranks.rankme, graph.rankme]\n")
    printed = new_project.snakemake("all", "--config", f"data_root={tmp_path / 'data'}", study=study)
    left = "evaluations.knn, evaluations.linear, figures.class-maps left out"  # of the parent, and what colours by class
    assert printed.count(f"warning: photos-invp: data set 'image-folder' has no labels: {left}") == 1
    results = new_project.folder / "results"
    rows = list(csv.DictReader((results / "studies/photos/summary.csv").open()))
    metrics = {row["metric"] for row in rows}
    assert "loss" in metrics and "mutual_share" in metrics and "same_class_share" not in metrics
    report = (results / "studies/photos/report.html").read_text()
    assert all(words in report for words in ("photos-invp", "RankMe of the graph", "clusters: photos-invp, seed 0"))
    assert "What the walk finds" in report and "coloured and named by class" not in report and "the anchor's class" not in report
    found = {(row["source"], row["metric"]): float(row["value"]) for row in rows}
    assert 1 < found["ranks", "rankme"] < 32 and 1 < found["graph", "rankme"] < 32 and found["graph", "uniformity"] < 0
    assert (results / "photos-invp/seed-0/figures/clusters.png").stat().st_size > 10_000
    assert (results / "photos-invp/seed-0/explorer.html").stat().st_size > 10_000
    assert "0 faults" in new_project.invp("verify")
    views = (
        "extends: digits-simclr\nobjective: {name: swav, num_small: 1}\nviews: [{count: 2}, {size: 4, crop_scale: [0.1, 0.2]}]\n"
    )
    (new_project.folder / "config/experiments/views.yaml").write_text(views)
    sheet = ["--experiment", "config/experiments/views.yaml", "--sheet", str(tmp_path / "sheet.png")]
    assert "300 images, 0 classes, encoded, 1 shards" in new_project.invp(
        "inspect", "data", "results/datasets/image-folder/train", *sheet
    )
    with Image.open(tmp_path / "sheet.png") as seen:
        assert seen.width > 9 * 64 and seen.height > 8 * 64
