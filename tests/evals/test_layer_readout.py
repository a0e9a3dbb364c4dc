"""Read-outs of layers: on features whose contents are known, on real composites and on COIL-20; and that nothing is chosen on test data."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import prepared

from invp.data.shards import Shards
from invp.datasets import composites
from invp.evals import layer_readout
from invp.steps.evaluate import evaluated


class Known(torch.nn.Module):
    """An encoder whose first layer holds the image's pixels, and whose second holds nothing of it."""

    num_features = 1
    block_names = ["pixels", "nothing"]

    def blocks(self, images):
        noise = torch.rand(len(images), 4, 1, 1, generator=torch.Generator().manual_seed(len(images)))
        return [images.flatten(1)[:, :, None, None], noise]


def made(folder, **options):
    prepared({"name": "composites", "size": 16, "train_images": 400, "test_images": 150, **options}, folder)
    return folder


def looked_at(folder, encoder):
    return SimpleNamespace(
        encoder=encoder, train=folder / "train", test=folder / "test", classes=[str(d) for d in range(10)],
        mean=[0.5] * 3, std=[0.5] * 3, size=16, workers=1,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return made(tmp_path_factory.mktemp("composites"))


def test_composites_have_what_their_targets_say(folder):
    shards = Shards(folder / "train")
    targets = shards.targets()
    assert set(targets) == set(composites.TARGETS) and all(len(v) == 400 for v in targets.values())
    for level, (far, _, turn) in enumerate(composites.VARIATIONS):
        own = targets["variation"] == level
        assert own.sum() > 80
        assert 0.8 * far < np.abs(targets["x"][own]).max() <= far and 0.8 * turn < np.abs(targets["rotation"][own]).max() <= turn
    # On a black background the bright pixels' centre is where the targets say.
    config, generator = composites.Config(size=32), np.random.default_rng(0)
    black = composites.Image.new("RGB", (64, 64))
    disc = np.zeros((40, 40), np.uint8)
    disc[(np.add.outer((np.arange(40) - 19.5) ** 2, (np.arange(40) - 19.5) ** 2)) < 390] = 255
    for _ in range(20):
        pixels, (x, y, size, _, variation) = composites.composed(composites.Image.fromarray(disc), black, config, generator)
        if variation == 2:
            continue  # it may stick out
        mass = pixels.mean(0) / pixels.mean(0).sum()
        across, down = (mass.sum(0) * (np.arange(32) + 0.5)).sum(), (mass.sum(1) * (np.arange(32) + 0.5)).sum()
        assert across == pytest.approx(16 * (1 + x), abs=0.3) and down == pytest.approx(16 * (1 + y), abs=0.3)
        area = (pixels.mean(0) / 255).sum()
        assert area == pytest.approx(np.pi / 4 * (32 * size) ** 2, rel=0.08)


def test_no_cut_out_is_in_both_splits(folder):
    used = [{source.split("cut-out ")[1].split(",")[0] for source in sources(folder / split)} for split in ("train", "test")]
    assert used[0] and used[1] and not used[0] & used[1]


def sources(folder):
    return [source for table in Shards(folder)._tables for source in table["source"].to_pylist()]


def test_a_layer_that_holds_the_image_tells_more_than_one_that_does_not(folder):
    config = layer_readout.Config(pool="global", components=150, splits=2, costs=[0.001, 0.01])
    result = evaluated(layer_readout, config, looked_at(folder, Known()), {}, seed=0, device="cpu")
    metrics = result["metrics"]
    for task in ("x", "y"):
        assert (
            metrics[f"{task}_pixels"] > 0.25 > 0.2 > abs(metrics[f"{task}_nothing"]) and metrics[task] == metrics[f"{task}_pixels"]
        )
    for task, layers in result["details"]["readouts"].items():
        for layer, values in layers.items():
            assert len(values) == 2 and metrics[f"{task}_{layer}"] == pytest.approx(np.mean(values))


def test_nothing_is_chosen_on_test_data(folder, monkeypatch):
    config = layer_readout.Config(pool="global", components=50, splits=1, costs=[0.0001, 0.01])
    honest = evaluated(layer_readout, config, looked_at(folder, Known()), {}, seed=0, device="cpu")
    targets, block_features = Shards.targets, layer_readout.block_features

    def shuffled(shards):
        found = targets(shards)
        generator = np.random.default_rng(5)
        return {n: generator.permutation(v) for n, v in found.items()} if shards.folder.name == "test" else found

    def features(inputs, folder, *rest):
        found, labels = block_features(inputs, folder, *rest)
        return found, np.random.default_rng(5).permutation(labels) if folder.name == "test" else labels

    monkeypatch.setattr(Shards, "targets", shuffled)
    monkeypatch.setattr(layer_readout, "block_features", features)
    blind = evaluated(layer_readout, config, looked_at(folder, Known()), {}, seed=0, device="cpu")
    assert blind["protocol"]["chosen"] == honest["protocol"]["chosen"]
    assert blind["metrics"]["x_pixels"] < honest["metrics"]["x_pixels"]


def test_the_correlation_is_pearsons():
    a, b = np.random.default_rng(0).normal(size=(2, 50))
    assert layer_readout.correlation(a, b) == pytest.approx(((a - a.mean()) * (b - b.mean())).mean() / a.std() / b.std())
    assert layer_readout.correlation(a, np.ones(50)) == 0


def test_real_objects_in_known_poses(data_root, tmp_path):
    if not (data_root / "coil20" / "coil20.tar").exists():  # whoever has other real sets need not have this one
        pytest.skip("coil20 is not under INVP_DATA")
    prepared({"name": "coil20", "size": 16}, tmp_path, data_root)
    shards = Shards(tmp_path / "train")
    assert shards.num_samples == 20 * 54 and Shards(tmp_path / "test").num_samples == 20 * 18
    sine, cosine = (shards.targets()[name] for name in ("pose_sine", "pose_cosine"))
    assert np.allclose(sine**2 + cosine**2, 1, atol=1e-6)
    config = layer_readout.Config(pool="global", components=100, splits=1, costs=[0.01])
    inputs = looked_at(tmp_path, Known())
    inputs.classes = shards.classes
    result = evaluated(layer_readout, config, inputs, {}, seed=0, device="cpu")
    assert result["metrics"]["category_pixels"] > 90 and result["metrics"]["pose_cosine_pixels"] > 0.2
