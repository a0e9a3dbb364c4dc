"""The numbers of the tables, against slow loops, torch's own optimiser, scikit-learn and torchmetrics."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix as sklearn_confusion
from sklearn.metrics import top_k_accuracy_score
from torchmetrics.classification import MulticlassAccuracy

from invp.core.metrics import accuracy_by_class, confusion_matrix, mean_per_class, topk_accuracy, weighted_votes
from invp.evals import linear
from invp.evals._inputs import FeatureInputs, FeatureTable
from invp.plumbing.config import instance, plugin_options
from invp.plumbing.plugins import load_plugin, plugin_names


def blobs(seed=0, train=240, test=90, classes=6, dimensions=10, noise=1.2) -> FeatureInputs:
    """Features of overlapping classes: some answers are wrong."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(classes, dimensions))

    def part(count: int) -> FeatureTable:
        labels = rng.integers(0, classes, count)
        rows = (centres[labels] + noise * rng.normal(size=(count, dimensions))).astype(np.float32)
        return FeatureTable(rows, rows @ rng.normal(size=(dimensions, 5)).astype(np.float32), labels, np.arange(count))

    return FeatureInputs(part(train), part(test), [f"class {i}" for i in range(classes)])


def configured(name: str, **options):
    plugin = load_plugin("evals", name)
    return plugin, instance(plugin.Config, plugin_options("evals", {"name": name, **options}, "test"))


def knn_by_loops(inputs: FeatureInputs, k: int, temperature: float) -> list[int]:
    """Each test image's class, by plain Python in float64."""
    answers = []
    train = inputs.train.feature.astype(np.float64)
    train /= np.linalg.norm(train, axis=1, keepdims=True)
    for row in inputs.test.feature.astype(np.float64):
        similarities = [float(other @ row / np.linalg.norm(row)) for other in train]
        nearest = sorted(range(len(train)), key=lambda i: -similarities[i])[:k]
        votes = [0.0] * len(inputs.classes)
        for i in nearest:
            votes[inputs.train.labels[i]] += math.exp(similarities[i] / temperature)
        answers.append(max(range(len(votes)), key=lambda c: (votes[c], -c)))
    return answers


@pytest.mark.parametrize(("k", "temperature"), [(1, 0.07), (7, 0.07), (50, 0.5), (1000, 0.1)])
def test_knn_equals_loops(k, temperature):
    inputs = blobs()
    plugin, config = configured("knn", k=[k], temperature=[temperature], features="feature")
    found = plugin.evaluate(config, inputs, seed=0, device="cpu")
    answers = np.array(knn_by_loops(inputs, k, temperature))
    assert found["metrics"]["top1"] == pytest.approx(100 * (answers == inputs.test.labels).mean())
    assert found["details"]["confusion"] == sklearn_confusion(inputs.test.labels, answers, labels=range(6)).tolist()
    assert found["protocol"]["k"] == [min(k, 240)]


def test_several_k_and_temperatures_come_from_one_search_and_the_first_counts():
    inputs = blobs()
    plugin, config = configured("knn", k=[20, 5], temperature=[0.07, 1.0], features="feature")
    found = plugin.evaluate(config, inputs, seed=0, device="cpu")["metrics"]
    for k in (20, 5):
        for temperature in (0.07, 1.0):
            alone = plugin.evaluate(
                configured("knn", k=[k], temperature=[temperature], features="feature")[1], inputs, seed=0, device="cpu"
            )
            assert found[f"top1_k{k}_t{temperature:g}"] == alone["metrics"]["top1"]
    assert found["top1"] == found["top1_k20_t0.07"]


def test_votes_of_equal_neighbours_tie_to_the_lower_class():
    scores = weighted_votes(np.array([[0.5, 0.5]]), np.array([[3, 1]]), 0.07, 5)
    assert scores[0, 1] == scores[0, 3] > 0 and scores.argmax(1)[0] == 1
    assert topk_accuracy(scores, np.array([1]), 1) == 100 and topk_accuracy(scores, np.array([3]), 1) == 0


def one_head(features, labels, classes, rate, decay, epochs, batch_size, seed) -> tuple[torch.Tensor, torch.Tensor]:
    """One softmax head by autograd and torch's SGD: weight decay on weights alone, cosine schedule by step."""
    weight = torch.zeros(features.shape[1], classes, requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    groups = [{"params": [weight], "weight_decay": decay}, {"params": [bias], "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=rate, momentum=0.9)
    steps = -(-len(features) // batch_size)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        for step, index in enumerate(torch.randperm(len(features), generator=generator).split(batch_size)):
            for group in optimizer.param_groups:
                group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * (epoch * steps + step) / (epochs * steps)))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(features[index] @ weight + bias, labels[index]).backward()
            optimizer.step()
    return weight.detach(), bias.detach()


def test_heads_trained_together_equal_heads_trained_alone():
    inputs = blobs()
    features, labels = torch.from_numpy(inputs.train.feature), torch.from_numpy(inputs.train.labels)
    grid = [(0.03, 0.0), (0.3, 1e-3), (1.0, 1e-4)]
    schedule = {"epochs": 4, "batch_size": 32, "seed": 5}
    weight, bias = linear.train_heads(features, labels, 6, grid, **schedule)
    for i, (rate, decay) in enumerate(grid):
        alone = one_head(features, labels, 6, rate, decay, **schedule)
        torch.testing.assert_close(weight[i], alone[0], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(bias[i], alone[1], atol=1e-5, rtol=1e-4)


def test_the_linear_probe_learns_and_reports_what_its_head_answers():
    inputs = blobs(noise=0.5)
    plugin, config = configured("linear", epochs=20, batch_size=32)
    found = plugin.evaluate(config, inputs, seed=0, device="cpu")
    assert found["metrics"]["top1"] > 85
    confusion = np.array(found["details"]["confusion"])
    assert 100 * confusion.trace() / confusion.sum() == pytest.approx(found["metrics"]["top1"])
    best = max(found["details"]["validation"], key=lambda row: row["top1"])
    assert found["metrics"]["validation_top1"] == best["top1"]


@pytest.mark.parametrize("name", [name for name in plugin_names("evals") if load_plugin("evals", name).NEEDS == "features"])
def test_shuffled_test_labels_change_no_choice(name):
    """Of evaluations of features; those of the encoder have the same test in test_finetuning.py and test_linear_blocks.py."""
    plugin, config = configured(name)
    inputs, shuffled = blobs(), blobs()
    shuffled.test.labels = np.random.default_rng(9).permutation(shuffled.test.labels)
    one, other = (plugin.evaluate(config, each, seed=0, device="cpu") for each in (inputs, shuffled))
    assert one["protocol"] == other["protocol"]
    assert one["metrics"] != other["metrics"]
    for key in ("validation",):
        assert one["details"].get(key) == other["details"].get(key)


@pytest.mark.parametrize("k", [1, 2, 5])
def test_topk_equals_scikit_learn_and_torchmetrics(k):
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(200, 8)), rng.integers(0, 8, 200)
    assert topk_accuracy(scores, labels, k) == pytest.approx(100 * top_k_accuracy_score(labels, scores, k=k))
    metric = MulticlassAccuracy(8, top_k=k, average="micro")
    assert topk_accuracy(scores, labels, k) == pytest.approx(
        100 * float(metric(torch.tensor(scores), torch.tensor(labels))), rel=1e-5
    )


def test_top5_of_fewer_classes_is_100_and_equal_scores_count_in_order():
    assert topk_accuracy(np.zeros((4, 3)), np.array([0, 1, 2, 2]), 5) == 100
    assert topk_accuracy(np.zeros((4, 3)), np.array([0, 1, 2, 2]), 1) == 25


def test_mean_per_class_equals_torchmetrics_and_leaves_empty_classes_out():
    rng = np.random.default_rng(1)
    predicted, labels = rng.integers(0, 5, 300), rng.integers(0, 4, 300)
    confusion = confusion_matrix(predicted, labels, 5)
    assert confusion.tolist() == sklearn_confusion(labels, predicted, labels=range(5)).tolist()
    assert accuracy_by_class(confusion)[4] is None
    expected = np.mean([(predicted[labels == c] == c).mean() for c in range(4)])
    assert mean_per_class(confusion) == pytest.approx(100 * expected)


def test_the_published_numbers_of_neighbours_stand_beside_the_headline_which_is_the_same_alone():
    inputs = blobs(train=150)
    plugin, config = configured("knn")
    found = plugin.evaluate(config, inputs, seed=0, device="cpu")
    assert [name for name in found["metrics"] if name.startswith("top1_")] == [f"top1_k{k}_t0.07" for k in (150, 10, 20, 100)]
    alone = plugin.evaluate(configured("knn", k=[200])[1], inputs, seed=0, device="cpu")
    assert found["metrics"].items() >= alone["metrics"].items() and found["details"] == alone["details"]
    few = plugin.evaluate(config, blobs(train=15), seed=0, device="cpu")
    assert few["protocol"]["k"] == [15, 10] and few["protocol"]["fewer_neighbours"].startswith("15, not 200, 20, 100:")
    enough = plugin.evaluate(config, blobs(train=250), seed=0, device="cpu")
    assert enough["protocol"]["k"] == [200, 10, 20, 100] and "fewer_neighbours" not in enough["protocol"]
