"""Clusters against classes: hand-worked cases, torchmetrics, every assignment tried, and features that fall into their classes."""

from itertools import permutations

import numpy as np
import pytest
import torch
from torchmetrics.clustering import AdjustedRandScore, NormalizedMutualInfoScore

from invp.core.clusters import kmeans
from invp.evals import clusters
from invp.evals._inputs import FeatureInputs, FeatureTable
from invp.plumbing.errors import UserError


def inputs_of(noise: float, train: int = 120, test: int = 60, classes: int = 4) -> FeatureInputs:
    """Unit vectors of as many directions as classes, in a shuffled order of classes, with noise, at any length."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(8, 8)))[0][rng.permutation(classes)]

    def part(count: int) -> FeatureTable:
        labels = rng.integers(0, classes, count)
        rows = (directions[labels] + noise * rng.normal(size=(count, 8))) * rng.uniform(1, 50, (count, 1))
        return FeatureTable(None, rows.astype(np.float32), labels, np.arange(count))

    return FeatureInputs(part(train), part(test), [f"class {c}" for c in range(classes)])


def found(inputs: FeatureInputs, seed: int = 0, **options) -> dict:
    return clusters.evaluate(clusters.Config(**options), inputs, seed=seed, device="cpu")


def test_permuted_labels_are_all_right():
    labels = np.array([0, 0, 1, 1, 1, 2])
    permuted = np.array([2, 0, 1])[labels]
    given = clusters.classes_of_clusters(permuted, labels, 3)
    assert given.tolist() == [1, 2, 0] and (given[permuted] == labels).all()


def test_by_hand():
    # Cluster 0: three of class 0, two of class 1. Cluster 1: two of class 0. It is best to give 0 to class 0 for three right ones of seven,
    # or 1 to class 0 and 0 to class 1 for four.
    labels, own = np.array([0, 0, 0, 1, 1, 0, 0]), np.array([0, 0, 0, 0, 0, 1, 1])
    assert clusters.classes_of_clusters(own, labels, 2).tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(5))
def test_no_other_assignment_is_better(seed):
    rng = np.random.default_rng(seed)
    labels, own = rng.integers(0, 5, 60), rng.integers(0, 5, 60)
    right = (clusters.classes_of_clusters(own, labels, 5)[own] == labels).sum()
    assert right == max((np.array(given)[own] == labels).sum() for given in permutations(range(5)))


def test_features_in_their_classes_give_all_and_at_random_next_to_nothing():
    assert found(inputs_of(0.02))["metrics"] == {"accuracy": 100, "nmi": pytest.approx(1), "ari": pytest.approx(1)}
    noise = found(inputs_of(30.0, test=2000))["metrics"]
    assert noise["nmi"] < 0.02 and abs(noise["ari"]) < 0.02 and 25 <= noise["accuracy"] < 35


@pytest.mark.parametrize("seed", range(3))
def test_the_numbers_are_torchmetrics_of_the_nearest_centroids(seed):
    inputs = inputs_of(0.6)
    unit = [torch.nn.functional.normalize(torch.from_numpy(part.embedding), dim=1) for part in (inputs.train, inputs.test)]
    fits = [kmeans(unit[0], 4, seed=3 * seed + n) for n in range(3)]
    best = min(fits, key=lambda fit: ((unit[0] - fit.centroids[fit.cluster]) ** 2).sum())
    own = torch.tensor([int(((row - best.centroids) ** 2).sum(1).argmin()) for row in unit[1]])
    result = found(inputs, seed, tries=3)
    truth = torch.from_numpy(inputs.test.labels)
    assert result["metrics"]["nmi"] == pytest.approx(float(NormalizedMutualInfoScore("arithmetic")(own, truth)), abs=1e-5)
    assert result["metrics"]["ari"] == pytest.approx(float(AdjustedRandScore()(own, truth)), abs=1e-5)
    assert result["details"]["cluster_sizes"] == torch.bincount(own, minlength=4).tolist()
    assert 0.1 < result["metrics"]["nmi"] < 0.9
    confusion = np.array(result["details"]["confusion"])
    assert 100 * confusion.trace() / confusion.sum() == pytest.approx(result["metrics"]["accuracy"])


def test_k_means_sees_a_share_of_many_images(monkeypatch):
    inputs = inputs_of(0.02)
    monkeypatch.setattr(clusters, "SEEN", 10)
    drawn = clusters.drawn(inputs.train.embedding, 40, 3)
    assert drawn.shape == (40, 8) and np.linalg.norm(drawn, axis=1) == pytest.approx(1)
    assert (drawn != clusters.drawn(inputs.train.embedding, 40, 4)).any()
    result = found(inputs)
    assert result["metrics"]["accuracy"] == 100 and result["protocol"]["clustered"].startswith("40 of 120 training images")


def test_fewer_images_than_classes_are_refused():
    with pytest.raises(UserError, match="3 training images, too few for 4 clusters"):
        found(inputs_of(0.02, train=3))
