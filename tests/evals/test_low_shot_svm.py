"""SVMs of few images: the draws by counting, the numbers by scikit-learn's own SVM, and that more images help."""

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from invp.core.metrics import average_precision
from invp.evals import low_shot_svm
from invp.evals._inputs import FeatureInputs, FeatureTable
from invp.plumbing.errors import UserError


def table(seed: int, count: int, several: bool) -> FeatureTable:
    """Three classes by a direction each; with several labels an image some are only difficult."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 8)).astype(np.float32)
    if not several:
        return FeatureTable(rows, rows, (rows[:, :3] + 0.7 * rng.normal(size=(count, 3))).argmax(1), np.arange(count))
    labels = (rows[:, :3] + 0.7 * rng.normal(size=(count, 3)) > 0.5).astype(np.int8)
    labels[rng.random((count, 3)) < 0.1] = -1
    return FeatureTable(rows, rows, np.full(count, -1), np.arange(count), labels)


def inputs_of(several: bool, train: int = 150) -> FeatureInputs:
    return FeatureInputs(table(0, train, several), table(1, 200, several), ["a", "b", "c"])


def found(inputs: FeatureInputs, **options) -> dict:
    return low_shot_svm.evaluate(low_shot_svm.Config(**options), inputs, seed=0, device="cpu")


def test_a_draw_has_k_of_the_class_and_so_many_of_every_other_and_nothing_difficult():
    known = table(0, 150, several=True).multi_labels
    for shots in (1, 4, 20):
        for number, own in enumerate(low_shot_svm.drawn(known, shots, 0)):
            assert np.bincount(known[own, number], minlength=2).tolist() == [2 * shots, shots] and len(set(own)) == len(own)
            assert (known[own, number] >= 0).all()
    again, other = low_shot_svm.drawn(known, 4, 0), low_shot_svm.drawn(known, 4, 1)
    assert all((a == b).all() for a, b in zip(again, low_shot_svm.drawn(known, 4, 0), strict=True))
    assert any((a != b).any() for a, b in zip(again, other, strict=True))
    few = np.array([[1, 0, 0]] * 5 + [[0, 1, 0]] * 3 + [[0, 0, 1]] * 3)
    assert [len(own) for own in low_shot_svm.drawn(few, 3, 0)] == [3 + 6, 3 + 6, 3 + 6]
    assert [len(own) for own in low_shot_svm.drawn(few[:9], 3, 0)][0] == 3 + 4, "all others, if they are fewer"


@pytest.mark.parametrize("several", [True, False])
def test_means_and_deviations_are_those_of_scikit_learns_svm_on_the_draws(several):
    inputs = inputs_of(several)
    result = found(inputs, shots=[2, 8], draws=3)
    train, test = (p.feature / np.linalg.norm(p.feature, axis=1, keepdims=True) for p in (inputs.train, inputs.test))
    known, truth = (
        p.multi_labels if several else (p.labels[:, None] == np.arange(3)).astype(int) for p in (inputs.train, inputs.test)
    )
    for shots in (2, 8):
        means = []
        for draw in range(3):
            values = []
            for number, own in enumerate(low_shot_svm.drawn(known, shots, draw)):
                weight = np.where(known[own, number] == 1, 2.0, 1.0)
                fitted = LinearSVC(C=0.1, random_state=0, max_iter=2000)
                fitted.fit(train[own].astype(np.float64), known[own, number], sample_weight=weight)
                counted = truth[:, number] >= 0
                scores = fitted.decision_function(test[counted].astype(np.float64))
                values.append(average_precision(scores, truth[counted, number] == 1))
            means.append(np.mean(values))
        assert result["metrics"][f"map_k{shots}"] == pytest.approx(np.mean(means), rel=1e-3)
        assert result["metrics"][f"deviation_k{shots}"] == pytest.approx(np.std(means) * (3 / 2) ** 0.5, rel=0.05)
        assert result["details"]["draws"][str(shots)] == pytest.approx(means, rel=1e-3)


def test_more_images_help_and_those_that_a_class_has_not_are_left_out():
    result = found(inputs_of(several=False))
    smallest = int(np.bincount(inputs_of(several=False).train.labels).min())
    assert 32 <= smallest < 64 and result["protocol"]["k"] == [1, 2, 4, 8, 16, 32]
    assert result["protocol"]["left_out"].startswith(f"k of [64, 96]: the smallest class has {smallest}")
    metrics = result["metrics"]
    assert metrics["map_k1"] + 5 < metrics["map_k8"] < metrics["map_k32"] + 2 and metrics["deviation_k1"] > metrics["deviation_k32"]
    assert "left_out" not in found(inputs_of(several=False), shots=[1])["protocol"]


def test_a_class_with_fewer_images_than_any_k_is_named():
    train = table(0, 60, several=True)
    train.multi_labels[5:, 2] = 0
    train.multi_labels[:5, 2] = 1
    with pytest.raises(UserError, match=r"class c has 5 training images, fewer than any of shots, \[8, 16\]"):
        found(FeatureInputs(train, table(1, 40, several=True), ["a", "b", "c"]), shots=[8, 16])


def test_one_class_alone_is_refused():
    alone = [
        FeatureTable(own.feature, own.embedding, np.zeros(60, int), own.index) for own in (table(0, 60, False), table(1, 60, False))
    ]
    with pytest.raises(UserError, match="there is one class"):
        found(FeatureInputs(*alone, ["a"]))


def test_a_class_without_a_test_image_is_no_part_of_the_mean():
    inputs = inputs_of(several=True)
    inputs.test.multi_labels[:, 1] = 0
    result = found(inputs, shots=[4], draws=2)
    scores = result["details"]["average_precision"]
    assert scores[1]["k4"] is None and result["metrics"]["map_k4"] == pytest.approx((scores[0]["k4"] + scores[2]["k4"]) / 2)
