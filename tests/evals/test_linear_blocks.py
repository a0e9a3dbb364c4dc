"""Probes of all blocks: the same as one by one, from one pass over the images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from invp.config import instance
from invp.data import Shards
from invp.errors import UserError
from invp.evals import linear, linear_blocks
from invp.models.encoders import build_encoder

OPTIONS = {"name": "resnet_small", "stem": "imagenet", "norm": "batch", "width": 8, "blocks": 1, "zero_init_residual": False}
QUICK = {"learning_rates": [0.03, 0.3], "weight_decays": [0.0, 1e-3], "epochs": 3, "batch_size": 128}


@pytest.fixture
def inputs(digits):
    torch.manual_seed(0)
    encoder = build_encoder(OPTIONS, 8)
    return SimpleNamespace(
        encoder=encoder, train=digits["train"], test=digits["test"], classes=[str(i) for i in range(10)], size=8,
        mean=[0.3] * 3, std=[0.4] * 3,
    )  # fmt: skip


def config(**options):
    return instance(linear_blocks.Config, {**QUICK, **options})


def test_each_block_equals_its_own_probe_and_all_come_from_one_pass(inputs):
    passes = []
    blocks = inputs.encoder.blocks
    inputs.encoder.blocks = lambda images: (passes.append(len(images)), blocks(images))[1]
    found = linear_blocks.evaluate(config(), inputs, seed=3, device="cpu")
    assert sum(passes) == 1437 + 360, "one pass over each split"
    rows = found["details"]["blocks"]
    assert [row["block"] for row in rows] == inputs.encoder.block_names
    images = {split: Shards(getattr(inputs, split)) for split in ("train", "test")}
    inputs.encoder.eval()
    for number, row in enumerate(rows):
        features = []
        for shards in images.values():
            pixels = shards.images(torch.arange(shards.num_samples)).float().div(255).expand(-1, 3, -1, -1)
            with torch.no_grad():
                features.append(blocks((pixels - 0.3) / 0.4)[number].mean((2, 3)).half().float())
        alone = linear.probe(config(), *features, images["train"].labels, 10, 3)
        accuracy = 100 * (alone.scores.argmax(1) == images["test"].labels.numpy()).mean()
        assert row["top1"] == pytest.approx(accuracy, abs=0.6)  # two images: sums of another batch size
        assert (row["learning_rate"], row["weight_decay"]) == alone.chosen


def test_the_best_block_is_chosen_without_the_test_labels(inputs, monkeypatch):
    one = linear_blocks.evaluate(config(), inputs, seed=0, device="cpu")
    read = linear_blocks.block_features

    def shuffled(inputs, folder, *rest):
        features, labels = read(inputs, folder, *rest)
        return features, np.random.default_rng(1).permutation(labels) if folder == inputs.test else labels

    monkeypatch.setattr(linear_blocks, "block_features", shuffled)
    other = linear_blocks.evaluate(config(), inputs, seed=0, device="cpu")
    assert one["protocol"] == other["protocol"]
    assert other["metrics"]["top1"] < 30 < one["metrics"]["top1"]


def test_pooling_as_published():
    """(s, channels) of ResNet-50's stem and stages; a map that is smaller than s stays as it is."""
    for side, channels, height in ((12, 64, 56), (6, 256, 56), (4, 512, 28), (3, 1024, 14), (1, 2048, 7)):
        assert linear_blocks.pooled(torch.rand(2, channels, height, height), config(pool="published")).shape == (
            2,
            channels * side**2,
        )
    assert linear_blocks.pooled(torch.rand(2, 64, 5, 5), config(pool="published")).shape == (2, 64 * 25)
    maps = torch.rand(2, 64, 5, 5)
    torch.testing.assert_close(linear_blocks.pooled(maps, config()), maps.mean((2, 3)))


def test_a_wrong_pooling_is_named(inputs):
    with pytest.raises(UserError, match="pool is 'max'"):
        linear_blocks.evaluate(config(pool="max"), inputs, seed=0, device="cpu")
