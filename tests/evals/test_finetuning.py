"""Fine-tuning: its loop against one written plainly, semi-supervised subsets, and transfer's choice on validation images alone."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networks import SMALL, encoder_inputs
from torchmetrics.classification import MulticlassAccuracy

from invp.core.metrics import average_precision
from invp.data.shards import Shards
from invp.evals import _finetune, semi_supervised, transfer
from invp.models.encoders import build_encoder
from invp.plumbing.config import instance, plugin_options
from invp.plumbing.errors import UserError
from invp.steps import prepare
from invp.steps.evaluate import evaluated


@pytest.fixture
def inputs(digits):
    return encoder_inputs(digits)


def test_two_steps_are_sgd_by_hand(inputs):
    """Two steps on all of a tiny subset, with the crop that changes nothing: momentum, Nesterov, decay and cosine by their formulas."""
    config = _finetune.Schedule(
        steps=2, batch_size=16, crop_scale=[1.0, 1.0], flip=False, momentum=0.9, nesterov=True, head_factor=3.0
    )
    shards, numbers = Shards(inputs.train), torch.arange(16)
    network, losses = _finetune.finetuned(inputs, shards, numbers, config, 0.1, 0.01, seed=0, device="cpu", label="t")
    plain = _finetune.Classifier(inputs.encoder, 10).train()
    images = (shards.images(numbers).float().div(255).expand(-1, 3, -1, -1) - 0.3) / 0.4
    momenta = {name: torch.zeros_like(p) for name, p in plain.named_parameters()}
    for step in range(2):
        loss = F.cross_entropy(plain(images), shards.labels[:16])
        assert losses[step] == pytest.approx(float(loss.detach()), abs=1e-5)
        plain.zero_grad()
        loss.backward()
        for name, value in plain.named_parameters():
            gradient = value.grad + 0.01 * value.detach()
            momenta[name] = 0.9 * momenta[name] + gradient
            rate = 0.1 * (1 + math.cos(math.pi * step / 2)) / 2 * (3.0 if name.startswith("classifier") else 1.0)
            value.data -= rate * (gradient + 0.9 * momenta[name])
    assert losses[0] == pytest.approx(math.log(10), abs=1e-5) and losses[1] < losses[0]
    for (_, expected), (_, value) in zip(plain.named_parameters(), network.named_parameters(), strict=True):
        torch.testing.assert_close(value.detach(), expected.detach(), atol=1e-5, rtol=1e-4)


def test_the_given_encoder_is_left_as_it_was(inputs):
    before = {k: v.clone() for k, v in inputs.encoder.state_dict().items()}
    config = _finetune.Schedule(steps=2, batch_size=32)
    _finetune.finetuned(inputs, Shards(inputs.train), torch.arange(64), config, 0.1, 0.0, seed=0, device="cpu", label="t")
    assert all(torch.equal(v, before[k]) for k, v in inputs.encoder.state_dict().items())


def test_the_schedules():
    stepped = _finetune.Schedule(schedule="multistep", drops=[2, 4])
    assert [_finetune._factor(stepped, 0.5, e, encoder=True) for e in (1, 2, 3, 4, 5)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])
    assert _finetune._factor(stepped, 0.5, 5, encoder=False) == 1
    cosine = _finetune.Schedule()
    assert [_finetune._factor(cosine, s, 1, encoder=True) for s in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


def test_the_loss_of_several_labels_leaves_difficult_ones_out():
    scores, targets = torch.tensor([[2.0, -1.0, 0.5]]), torch.tensor([[1, 0, -1]], dtype=torch.int8)
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert float(_finetune.loss_of(scores, targets)) == pytest.approx(expected)


def test_scores_of_some_images_are_those_of_all(inputs):
    network = _finetune.Classifier(inputs.encoder, 10).eval()
    torch.nn.init.normal_(network.classifier.weight)
    shards, numbers = Shards(inputs.test), torch.tensor([3, 300, 17])
    everything = _finetune.scores_of(network, inputs, shards, "cpu")
    torch.testing.assert_close(
        _finetune.scores_of(network, inputs, shards, "cpu", numbers), everything[numbers], atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_a_subset_is_balanced_fixed_and_of_the_asked_size(digits, share):
    labels = Shards(digits["train"]).labels.numpy()
    subset = semi_supervised.subset_of(labels, 10, share, 0)
    each = max(1, round(share * len(labels) / 10))
    assert np.bincount(labels[subset]).tolist() == [each] * 10 and len(set(subset)) == len(subset)
    assert np.array_equal(subset, semi_supervised.subset_of(labels, 10, share, 0))
    assert not np.array_equal(subset, semi_supervised.subset_of(labels, 10, share, 1))
    with pytest.raises(UserError, match="asks for 1437"):
        semi_supervised.subset_of(labels, 1, 1.0, 0)


QUICK = {
    "epochs": 8,
    "learning_rate": 0.05,
    "head_factor": 4.0,
    "drops": [6],
    "batch_size": 32,
    "crop_scale": [0.8, 1.0],
    "flip": False,
}


def check_answers(found: dict, inputs, names: set[str]) -> None:
    """The answers are of these metrics, whose shares they are, and stand in the order of the test images."""
    assert set(found["answers"]) == names
    for name in names:
        assert found["metrics"][name] == pytest.approx(100 * np.mean(found["answers"][name]))
    truth, confusion = Shards(inputs.test).labels.numpy(), np.array(found["details"]["confusion"])
    assert [np.array(found["answers"]["top1"])[truth == c].sum() for c in range(10)] == confusion.diagonal().tolist()


def test_semi_supervised_learns_from_the_subset_alone(inputs, monkeypatch):
    seen = []
    train_batches = _finetune.train_batches

    def watched(*args, **options):
        for step, index, views in train_batches(*args, **options):
            seen.extend(index.tolist())
            yield step, index, views

    monkeypatch.setattr(_finetune, "train_batches", watched)
    config = instance(semi_supervised.Config, {**QUICK, "share": 0.2})
    found = semi_supervised.evaluate(config, inputs, seed=0, device="cpu")
    assert set(seen) == set(found["details"]["subset"]) and len(found["details"]["subset"]) == 290
    assert found["metrics"]["top1"] > 60 and found["metrics"]["top5"] > 90
    assert found["details"]["loss"][-1] < 0.7 * found["details"]["loss"][0]
    check_answers(found, inputs, {"top1", "top5"})


def test_a_rate_that_explodes_is_said(inputs):
    config = instance(semi_supervised.Config, {**QUICK, "learning_rate": 1e8, "share": 0.2})
    with pytest.raises(UserError, match="lower learning_rate"):
        semi_supervised.evaluate(config, inputs, seed=0, device="cpu")


GRID = {
    "learning_rates": [1e-6, 0.1], "weight_decays": [0.0], "steps": 40, "batch_size": 64, "crop_scale": [0.8, 1.0], "flip": False,
}  # fmt: skip


def test_transfer_chooses_on_validation_and_trains_on_all(inputs):
    found = evaluated(transfer, instance(transfer.Config, GRID), inputs, {}, seed=0, device="cpu")
    assert found["protocol"]["chosen"]["learning_rate"] == 0.1
    rows = found["details"]["validation"]
    assert rows[1]["score"] > rows[0]["score"] + 20 and found["metrics"]["validation_score"] == rows[1]["score"]
    assert found["metrics"]["score"] == found["metrics"]["top1"] > 60
    assert "144 held-out training images" in found["protocol"]["choice"] and "trained on all 1437" in found["protocol"]["choice"]
    check_answers(found, inputs, {"top1", "top5", "score"})
    confusion = np.array(found["details"]["confusion"])
    per_class = MulticlassAccuracy(10, average="macro")
    truth = torch.from_numpy(np.repeat(np.arange(10), confusion.sum(1)))
    answers = torch.from_numpy(np.concatenate([np.repeat(np.arange(10), row) for row in confusion]))
    assert found["metrics"]["mean_per_class"] == pytest.approx(100 * float(per_class(answers, truth)), abs=1e-3)


def test_shuffled_test_labels_change_no_choice(inputs, monkeypatch):
    honest = evaluated(transfer, instance(transfer.Config, GRID), inputs, {}, seed=0, device="cpu")
    targets_of = _finetune.targets_of

    def shuffled(shards):
        found = targets_of(shards)
        if shards.folder == inputs.test:
            return found[torch.randperm(len(found), generator=torch.Generator().manual_seed(0))]
        return found

    monkeypatch.setattr(_finetune, "targets_of", shuffled)
    blind = evaluated(transfer, instance(transfer.Config, GRID), inputs, {}, seed=0, device="cpu")
    assert blind["protocol"] == honest["protocol"] and blind["details"]["validation"] == honest["details"]["validation"]
    assert blind["metrics"]["score"] < 30 < honest["metrics"]["score"]


def test_the_elevens_points_and_the_metric_must_fit():
    scores, targets = np.random.default_rng(0).normal(size=(30, 2)), np.random.default_rng(1).integers(-1, 2, (30, 2))
    expected = [average_precision(s[t >= 0], t[t >= 0] == 1, points=11) for s, t in zip(scores.T, targets.T, strict=True)]
    assert transfer.measured(scores, targets, "map11") == pytest.approx(np.mean(expected))
    with pytest.raises(UserError, match="several labels an image"):
        transfer.measured(scores, targets, "top1")
    with pytest.raises(UserError, match="several labels an image"):
        transfer.measured(scores, targets[:, 0], "map11")


def test_a_sets_own_validation_split_is_used(tmp_path, monkeypatch):
    """Flowers: apart from the training images. VOC: a part of trainval, not to be counted twice."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "datasets"))
    from test_layouts import TREES

    for name, count, held in (("flowers102", 3, 1), ("voc2007", 2, 1)):
        root = tmp_path / name
        TREES[name](root)
        options = plugin_options("datasets", {"name": name}, "test")
        for split in ("train", "val"):
            prepare.write_split(options, split, root, root / split, 1)
        looked_at = SimpleNamespace(train=root / "train", validation=root / "val")
        shards, fitting, validation, words = transfer.splits_of(transfer.Config(), looked_at, 0)
        assert shards.num_samples == count and len(validation) == held and len(fitting) == count - held
        assert not set(fitting.tolist()) & set(validation.tolist()) and "own validation split" in words
        assert set(shards.sources(validation)) == set(Shards(root / "val").sources())


def test_joined_splits_must_be_of_one_kind(digits, tmp_path):
    both = Shards(digits["train"], digits["test"])
    assert both.num_samples == 1797 and torch.equal(both.labels[1437:], Shards(digits["test"]).labels)
    index = torch.tensor([0, 1437, 1796])
    expected = torch.cat([Shards(digits["train"]).images(index[:1]), Shards(digits["test"]).images(torch.tensor([0, 359]))])
    assert torch.equal(both.images(index), expected)
    prepare.write_split(plugin_options("datasets", {"name": "scenes", "test_images": 2}, "t"), "test", None, tmp_path, 1)
    with pytest.raises(UserError, match="cannot be joined"):
        Shards(digits["train"], tmp_path)


def test_batch_norms_average_faster_at_first(inputs):
    config = _finetune.Schedule(steps=1, batch_size=64, norm_warmup=True, crop_scale=[1.0, 1.0], flip=False)
    shards, numbers = Shards(inputs.train), torch.arange(64)
    network, _ = _finetune.finetuned(inputs, shards, numbers, config, 0.0, 0.0, seed=0, device="cpu", label="t")
    images = (shards.images(numbers).float().div(255).expand(-1, 3, -1, -1) - 0.3) / 0.4
    with torch.no_grad():
        seen = build_encoder(SMALL, 8)
        seen.load_state_dict(inputs.encoder.state_dict())
        mean = seen.conv1(images).mean((0, 2, 3))
    torch.testing.assert_close(network.encoder.bn1.running_mean, mean, atol=1e-4, rtol=1e-3)
