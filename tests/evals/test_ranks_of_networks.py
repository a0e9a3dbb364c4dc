"""The evaluation `ranks` on digits: of the features that the network has, of views that a seed draws, and without a label."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from networks import encoder_inputs
from PIL import Image

from invp.core.ranks import alignment, rankme, uniformity
from invp.data.batches import eval_batches
from invp.data.shards import Shards
from invp.evals import ranks
from invp.plumbing import needs
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load_study
from invp.plumbing.files import sha256_of

FEW = ranks.Config(images=200, viewed=20, views=4, features="feature")


def found(inputs, config=FEW, seed=0) -> dict:
    return ranks.evaluate(config, inputs, seed=seed, device="cpu")


def test_the_numbers_are_those_of_the_networks_features(digits):
    inputs = encoder_inputs(digits)
    result = found(inputs)
    chosen = torch.randperm(1437, generator=torch.Generator().manual_seed(0))[:200]
    (_, images), = eval_batches(Shards(digits["train"]), size=8, batch_size=1437, device="cpu", mean=[0.3] * 3, std=[0.4] * 3)  # fmt: skip
    with torch.no_grad():
        rows = inputs.encoder.eval()(images[chosen]).numpy()
    assert result["metrics"]["rankme"] == pytest.approx(rankme(rows), rel=1e-4)
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    assert result["metrics"]["uniformity"] == pytest.approx(uniformity(unit), rel=1e-4)
    assert 1 < result["metrics"]["rankme"] < rows.shape[1] and 1 < result["metrics"]["lidar"] <= 16
    assert result["protocol"]["lidar_and_alignment"].startswith("16 of them in 4 views"), "whole batches of 8 alone"


def test_views_are_of_one_image_each_and_drawn_by_the_seed(digits):
    inputs, shards, numbers = encoder_inputs(digits), Shards(digits["train"]), torch.arange(16)
    inputs.encoder = torch.nn.Flatten()
    whole = ranks.Config(views=3, viewed=16, crop_scale=[1.0, 1.0], flip=False, features="feature")
    rows = ranks.of_views(whole, inputs, shards, numbers, seed=0, device="cpu")
    plain = ranks.of_images(whole, inputs, shards, numbers, "cpu")
    assert rows.shape == (16, 3, 192) and np.allclose(rows, plain[:, None], atol=1e-5)
    crops = [ranks.of_views(FEW, inputs, shards, numbers, seed=seed, device="cpu") for seed in (0, 0, 1)]
    assert (crops[0] == crops[1]).all() and (crops[0] != crops[2]).any()
    for one in range(4):
        for other in range(one):
            assert (crops[0][:, one] != crops[0][:, other]).any()


def test_views_of_an_image_are_nearer_than_those_of_others(digits):
    inputs = encoder_inputs(digits)
    rows = ranks.of_views(FEW, inputs, Shards(digits["train"]), torch.arange(200), seed=0, device="cpu")
    unit = rows / np.linalg.norm(rows, axis=2, keepdims=True)
    assert found(inputs)["metrics"]["alignment"] < alignment(unit[:, 0], np.roll(unit[:, 1], 1, 0))


def test_labels_and_a_test_split_are_not_looked_at(digits, tmp_path):
    folder = tmp_path / "train"
    shutil.copytree(digits["train"], folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    shard = folder / manifest["shards"][0]["file"]
    table = pa.ipc.open_file(shard).read_all()
    blank = table.set_column(table.schema.get_field_index("label"), "label", pa.nulls(len(table), pa.int32()))
    with pa.ipc.new_file(shard, blank.schema) as writer:
        writer.write_table(blank)
    manifest["shards"][0]["sha256"] = sha256_of(shard)
    manifest["classes"] = []
    (folder / "manifest.json").write_text(json.dumps(manifest))
    inputs, without = encoder_inputs(digits), encoder_inputs(digits)
    without.train, without.test, without.classes = folder, None, []
    assert found(without) == found(inputs)


def test_one_image_is_refused(digits, monkeypatch):
    inputs = encoder_inputs(digits)
    monkeypatch.setattr(ranks, "Shards", lambda folder: SimpleNamespace(num_samples=1))
    with pytest.raises(UserError, match="has 1 image; these measures compare images"):
        found(inputs)


def test_a_study_of_photographs_alone_keeps_it_and_needs_no_test_split(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INVP_DATA", str(tmp_path))
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "photos/1.png")
    (tmp_path / "own.yaml").write_text(
        "extends: smoke-invp\ndataset: {name: image_folder, folder: photos, train: .}\nevaluations: {ranks: {}}\n"
    )
    study = load_study({"study": "s", "experiments": ["own"]}, "s.yaml", tmp_path)
    assert needs.leave_out_what_needs_labels(study) == [
        "own: data set 'image-folder' has no labels: evaluations.knn, evaluations.linear left out"
    ]
    assert list(study["loaded"]["own"]["evaluations"]) == ["ranks"]
    needs.check(study)
