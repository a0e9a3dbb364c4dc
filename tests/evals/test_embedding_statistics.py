"""Fig. 2a's numbers against slow loops, and at their ends."""

import numpy as np
import pytest

from invp.core.metrics import nearest_by_class, overlap
from invp.evals import embedding_statistics
from invp.evals._inputs import FeatureInputs, FeatureTable
from invp.plumbing.errors import UserError


def unit(seed: int, count: int) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, 5))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_the_nearest_of_both_sides_against_a_loop():
    rows, labels = unit(0, 60), np.random.default_rng(1).integers(0, 4, 60)
    anchors = np.array([7, 3, 59, 20])
    same, other = nearest_by_class(rows, labels, anchors, 3)
    for place, i in enumerate(anchors):
        own = sorted((float(rows[i] @ rows[j]) for j in range(60) if j != i and labels[j] == labels[i]), reverse=True)[:3]
        rest = sorted((float(rows[i] @ rows[j]) for j in range(60) if labels[j] != labels[i]), reverse=True)[:3]
        assert same[place].tolist() == pytest.approx(own) and other[place].tolist() == pytest.approx(rest)


def test_anchors_with_too_few_of_their_class_are_left_out():
    rows, labels = unit(0, 10), np.array([0, 0] + [1] * 8)
    same, other = nearest_by_class(rows, labels, np.arange(10), 2)
    assert len(same) == len(other) == 8 and np.isfinite(same).all()


def test_the_overlap_by_hand():
    assert overlap(np.array([0.5, 0.5]), np.array([0.5, 0.5])) == 1
    assert overlap(np.array([-0.5]), np.array([0.5])) == 0
    assert overlap(np.array([0.115, 0.125, 0.135, 0.815]), np.array([0.815, 0.825, 0.415, -0.5])) == pytest.approx(0.25)
    assert overlap(np.array([1.0000001]), np.array([1.0])) == 1


def table(rows, labels):
    return FeatureTable(rows * 3, rows, labels, np.arange(len(rows)))


def test_classes_apart_and_classes_mixed():
    labels = np.repeat([0, 1], 40)
    apart = np.eye(5)[labels] + 0.05 * unit(0, 80)
    config = embedding_statistics.Config(images=50)
    found = embedding_statistics.evaluate(config, FeatureInputs(None, table(apart, labels), ["a", "b"]), seed=0, device="cpu")[
        "metrics"
    ]
    assert found["overlap"] == 0 and found["gap"] > 0.8
    mixed = embedding_statistics.evaluate(config, FeatureInputs(None, table(unit(1, 80), labels), ["a", "b"]), seed=0, device="cpu")
    assert mixed["metrics"]["overlap"] > 0.7 and sum(mixed["details"]["same_class"]) == pytest.approx(1)
    with pytest.raises(UserError, match="no test image has 5 others"):
        embedding_statistics.evaluate(config, FeatureInputs(None, table(unit(1, 4), np.arange(4)), ["a"] * 4), seed=0, device="cpu")
