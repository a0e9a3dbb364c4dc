"""VOC's average precision in hand-worked cases, and the SVMs with one and with several labels an image."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.svm import LinearSVC

from invp.core.metrics import average_precision
from invp.evals import svm
from invp.evals._inputs import FeatureInputs, FeatureTable
from invp.plumbing.config import plugin_options
from invp.plumbing.errors import UserError
from invp.steps import features, prepare

COSTS = [0.01, 0.1, 1.0]


def test_average_precision_by_hand():
    # Ranked: right, wrong, right, wrong, right. Precisions at the hits 1, 2/3, 3/5; their envelope is the same.
    scores, positive = np.array([5.0, 4, 3, 2, 1]), np.array([1, 0, 1, 0, 1], bool)
    assert average_precision(scores, positive) == pytest.approx(100 * (1 + 2 / 3 + 3 / 5) / 3)
    # Recalls 0 to .3 are reached with 1, .4 to .6 with 2/3, .7 to 1 with 3/5.
    assert average_precision(scores, positive, points=11) == pytest.approx(100 * (4 * 1 + 3 * 2 / 3 + 4 * 3 / 5) / 11)


def test_the_envelope_lifts_what_sags():
    # wrong, right, right: precisions 1/2 and 2/3, and the envelope is 2/3 at both.
    scores, positive = np.array([3.0, 2, 1]), np.array([0, 1, 1], bool)
    assert average_precision(scores, positive) == pytest.approx(100 * 2 / 3)
    assert average_precision_score(positive, scores) == pytest.approx((1 / 2 + 2 / 3) / 2), "scikit-learn has no envelope"


def test_average_precision_at_its_ends():
    assert average_precision(np.array([2.0, 1]), np.array([True, False])) == 100
    assert average_precision(np.arange(10.0), np.zeros(10, bool)) != average_precision(np.arange(10.0), np.zeros(10, bool))  # NaN
    ten = np.arange(10, 0, -1.0), np.arange(10) < 3
    assert average_precision(*ten, points=11) == 100, "3 of 3 reaches every recall"


@pytest.mark.parametrize("seed", range(5))
def test_without_sagging_it_is_scikit_learns(seed):
    rng = np.random.default_rng(seed)
    positive = np.sort(rng.random(40) < 0.4)[::-1]  # all positives first, then noise in the scores of the rest
    assert average_precision(np.arange(40, 0, -1.0), positive) == pytest.approx(
        100 * average_precision_score(positive, np.arange(40, 0, -1.0))
    )


def several(seed: int, count: int) -> FeatureTable:
    """Three classes, each present by its own direction; some only difficult."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(count, 6)).astype(np.float32)
    labels = (rows[:, :3] + 0.4 * rng.normal(size=(count, 3)) > 0.5).astype(np.int8)
    labels[rng.random((count, 3)) < 0.1] = -1
    return FeatureTable(rows, rows, np.full(count, -1), np.arange(count), labels)


def test_several_labels_an_image_with_difficult_ones_left_out_of_the_test():
    inputs = FeatureInputs(several(0, 200), several(1, 120), ["a", "b", "c"])
    found = svm.evaluate(svm.Config(costs=COSTS), inputs, seed=0, device="cpu")
    row = found["details"]["average_precision"][1]
    train, test = (p.feature / np.linalg.norm(p.feature, axis=1, keepdims=True) for p in (inputs.train, inputs.test))
    own = LinearSVC(C=row["cost"], class_weight={True: 2.0, False: 1.0}, max_iter=2000, random_state=0)
    own.fit(train.astype(np.float64), inputs.train.multi_labels[:, 1] == 1)
    counted = inputs.test.multi_labels[:, 1] >= 0
    scores = own.decision_function(test.astype(np.float64))[counted]
    assert row["ap"] == pytest.approx(average_precision(scores, inputs.test.multi_labels[counted, 1] == 1))
    assert found["metrics"]["map"] == pytest.approx(np.mean([r["ap"] for r in found["details"]["average_precision"]]))
    assert 70 < found["metrics"]["map"] < 100


def test_a_class_with_too_few_images_is_named():
    train = several(0, 60)
    train.multi_labels[:, 2] = 0
    with pytest.raises(UserError, match="class c has 0 of 60"):
        svm.evaluate(svm.Config(costs=COSTS), FeatureInputs(train, several(1, 40), ["a", "b", "c"]), seed=0, device="cpu")


def test_voc_reaches_the_svm_and_no_other_evaluation(tmp_path):
    """Shards with several labels, through the features' table, to an evaluation's inputs."""
    import torch

    from invp.models.encoders import build_encoder
    from invp.models.heads import build_head
    from invp.steps._features_inputs import feature_table
    from tests.datasets.test_layouts import TREES

    TREES["voc2007"](tmp_path)
    prepare.write_split(plugin_options("datasets", {"name": "voc2007"}, "test"), "train", tmp_path, tmp_path / "out", 1)
    encoder = {"name": "resnet_small", "stem": "auto", "norm": "batch", "width": 8, "blocks": 1, "zero_init_residual": False}
    head = {"kind": "linear", "dimensions": 4}
    network = build_encoder(encoder, 16)
    modules = {"encoder": network, "head": build_head(head, network.num_features)}
    state = {f"{name}.{key}": value for name, module in modules.items() for key, value in module.state_dict().items()}
    torch.save({"objective": state}, tmp_path / "checkpoint.pt")
    section = {"encoder": encoder, "head": head, "augmentation": {"size": 16, "mean": [0.5] * 3, "std": [0.5] * 3}}
    features.write_features(section, tmp_path / "checkpoint.pt", tmp_path / "out", tmp_path / "features.arrow", {})
    table = feature_table(tmp_path / "features.arrow", True)
    assert table.multi_labels.shape == (2, 20) and table.multi_labels[1].min() == -1
    with pytest.raises(UserError, match="several labels an image"):
        feature_table(tmp_path / "features.arrow", False)
