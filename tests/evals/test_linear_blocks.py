"""Probes of all blocks: the same as one by one, from one pass over the images."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from invp.data.batches import epoch_order
from invp.data.shards import Shards
from invp.evals import linear, linear_blocks
from invp.evals._inputs import Saves
from invp.models.encoders import build_encoder
from invp.plumbing.config import instance

OPTIONS = {"name": "resnet_small", "stem": "auto", "norm": "batch", "width": 8, "blocks": 1, "zero_init_residual": False}
QUICK = {"learning_rates": [0.03, 0.3], "weight_decays": [0.0, 1e-3], "epochs": 3, "batch_size": 128}


@pytest.fixture
def inputs(digits):
    torch.manual_seed(0)
    encoder = build_encoder(OPTIONS, 8)
    return SimpleNamespace(
        encoder=encoder, train=digits["train"], test=digits["test"], classes=[str(i) for i in range(10)], size=8,
        mean=[0.3] * 3, std=[0.4] * 3, workers=1, saves=Saves(),
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
    of_answers = {name: 100 * np.mean(own) for name, own in found["answers"].items()}
    assert of_answers == pytest.approx({name: value for name, value in found["metrics"].items() if name != "validation_top1"})
    truth, confusion = Shards(inputs.test).labels.numpy(), np.array(found["details"]["confusion"])
    assert [np.array(found["answers"]["top1"])[truth == c].sum() for c in range(10)] == confusion.diagonal().tolist()
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


FRESH = {"crops": "fresh", "crop_scale": [1.0, 1.0], "flip": False, "drops": [2]}


def test_fresh_crops_train_every_blocks_heads_as_torch_would(inputs):
    """Without anything random in the crops: batch normalisation, softmax and SGD by torch's own modules, a pair and a block at a time."""
    inputs.workers = 1
    options = config(**FRESH)
    found, trained, held = linear_blocks.fresh_probes(options, inputs, seed=3, device="cpu")
    assert (trained, held) == (1293, 144)
    shards, test = Shards(inputs.train), Shards(inputs.test)
    fitting = torch.randperm(1437, generator=torch.Generator().manual_seed(3))[144:]

    def images(which, numbers):
        return (which.images(numbers).float().div(255).expand(-1, 3, -1, -1) - 0.3) / 0.4

    encoder = inputs.encoder.eval()
    for place, name in enumerate(encoder.block_names):
        rate, decay = found[name].chosen
        with torch.no_grad():
            width = encoder.blocks(images(test, torch.arange(2)))[place].shape[1]
        norm, head = torch.nn.BatchNorm1d(width, affine=False), torch.nn.Linear(width, 10)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        groups = [{"params": [head.weight], "weight_decay": decay}, {"params": [head.bias]}]
        optimizer = torch.optim.SGD(groups, rate, momentum=0.9)
        for epoch in (1, 2, 3):
            for group in optimizer.param_groups:
                group["lr"] = rate * (0.1 if epoch > 2 else 1)
            order = fitting[epoch_order(len(fitting), 3, epoch)]
            for numbers in order[: len(order) // 128 * 128].split(128):
                with torch.no_grad():
                    features = encoder.blocks(images(shards, numbers))[place].mean((2, 3))
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(head(norm(features)), shards.labels[numbers]).backward()
                optimizer.step()
        with torch.no_grad():
            scores = head(norm.eval()(encoder.blocks(images(test, torch.arange(360)))[place].mean((2, 3))))
        torch.testing.assert_close(torch.from_numpy(found[name].scores), scores, atol=2e-3, rtol=1e-3)


def test_fresh_crops_in_the_evaluation(inputs):
    inputs.workers = 1
    found = linear_blocks.evaluate(config(**{**FRESH, "crop_scale": [0.5, 1.0], "epochs": 4}), inputs, seed=0, device="cpu")
    rows = found["details"]["blocks"]
    best = max(rows, key=lambda row: row["validation_top1"])
    assert found["metrics"]["top1"] == found["metrics"][f"top1_{best['block']}"] == best["top1"] > 40
    assert "trained on the other 1293" in found["protocol"]["choice"] and "random crops" in found["protocol"]["kind"]
