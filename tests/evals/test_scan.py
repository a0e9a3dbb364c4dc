"""SCAN's head: its loss against loops in float64, classes that lie apart, labels of which training sees none, and self-labelling by hand."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch

from invp.data.tables import fixed_size_list
from invp.evals import scan
from invp.evals._graph_inputs import GraphInputs
from invp.evals._inputs import FeatureTable
from invp.plumbing import needs
from invp.plumbing.errors import UserError
from invp.plumbing.files import write_json, write_table
from invp.plumbing.jobs import Job
from invp.plumbing.sections import Graph
from invp.steps import _graph_inputs


def inputs_of(noise: float, train: int = 200, test: int = 80, classes: int = 4, k: int = 5) -> GraphInputs:
    """Rows in as many directions as classes, in any order of classes, with noise, and the exact graph of the training rows."""
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(8, 8)))[0][rng.permutation(classes)]

    def part(count: int) -> FeatureTable:
        labels = rng.integers(0, classes, count)
        rows = (directions[labels] + noise * rng.normal(size=(count, 8))).astype(np.float32)
        return FeatureTable(rows, None, labels, np.arange(count))

    tables = part(train), part(test)
    similarities = tables[0].feature @ tables[0].feature.T - 1e6 * np.eye(train)
    return GraphInputs(*tables, [f"class {c}" for c in range(classes)], np.argsort(-similarities, 1)[:, :k])


def found(inputs: GraphInputs, seed: int = 0, **options) -> dict:
    config = scan.Config(**{"k": 5, "learning_rate": 0.03, "batch_size": 50, "epochs": 15, "tries": 1, **options})
    return scan.evaluate(config, inputs, seed=seed, device="cpu")


def by_loops(scores: list[list[float]], others: list[list[float]], entropy: float) -> float:
    """Equation 2, by plain Python."""

    def softmax(row: list[float]) -> list[float]:
        powers = [math.exp(each) for each in row]
        return [each / sum(powers) for each in powers]

    shares, met = [softmax(row) for row in scores], [softmax(row) for row in others]
    agreement = sum(math.log(sum(a * b for a, b in zip(p, q, strict=True))) for p, q in zip(shares, met, strict=True)) / len(shares)
    mean = [sum(row[c] for row in shares) / len(shares) for c in range(len(shares[0]))]
    return -agreement + entropy * sum(each * math.log(each) for each in mean)


@pytest.mark.parametrize("entropy", [0.0, 5.0])
def test_the_loss_equals_loops(entropy):
    scores, others = torch.from_numpy(3 * np.random.default_rng(1).normal(size=(2, 12, 5)))
    assert float(scan.agreement_loss(scores, others, entropy)) == pytest.approx(
        by_loops(scores.tolist(), others.tolist(), entropy), abs=1e-12
    )


def test_equal_shares_have_the_loss_of_guessing_and_sure_ones_of_all_clusters_the_least():
    even, sure = torch.zeros(6, 3, dtype=torch.float64), 1e3 * torch.eye(3, dtype=torch.float64).repeat(2, 1)
    assert float(scan.agreement_loss(even, even, 5.0)) == pytest.approx(math.log(3) - 5 * math.log(3))
    assert float(scan.agreement_loss(sure, sure, 5.0)) == pytest.approx(-5 * math.log(3), abs=1e-5)
    one = sure[:1].repeat(6, 1).requires_grad_()  # all in one cluster: the entropy is 0, and its derivative a number
    loss = scan.agreement_loss(one, one, 5.0)
    loss.backward()
    assert abs(loss.item()) < 1e-5 and torch.isfinite(one.grad).all()


def test_own_labels_by_hand():
    """Two sure images of cluster 0, one of cluster 1, one in doubt: half of the mean of the first two and half of the third."""
    scores = torch.tensor([[9.0, 0.0, 0.0], [6.0, 0.0, 0.0], [0.0, 7.0, 0.0], [1.0, 0.9, 0.0]], dtype=torch.float64)
    minus_log = [math.log(1 + 2 * math.exp(-each)) for each in (9.0, 6.0, 7.0)]
    assert float(scan.own_labels_loss(scores, 0.99)) == pytest.approx(((minus_log[0] + minus_log[1]) / 2 + minus_log[2]) / 2)
    assert scan.own_labels_loss(scores[3:], 0.99) is None


def test_classes_that_lie_apart_are_found_and_more_surely_with_own_labels():
    result = found(inputs_of(0.02))
    assert result["metrics"] == {"accuracy": 100, "nmi": pytest.approx(1), "ari": pytest.approx(1)}
    assert sum(result["details"]["cluster_sizes"]) == 80 and len(result["details"]["loss"]) == 15
    assert result["details"]["loss"][-1] < result["details"]["loss"][0] - 0.5
    longer = found(inputs_of(0.02), self_label_epochs=5, confidence=0.9)
    assert longer["metrics"]["accuracy"] == 100 and longer["details"]["sure"] > result["details"]["sure"]
    assert longer["details"]["loss"] == result["details"]["loss"]
    assert "then 5 epochs on images of at least 0.9 of a cluster" in longer["protocol"]["epochs"]


def test_no_label_of_training_and_no_test_image_is_used():
    inputs, other = inputs_of(0.5), inputs_of(0.5)
    other.train.labels, other.test.labels = other.train.labels[::-1] * 0 - 1, other.test.labels[::-1]
    one, two = found(inputs), found(other)
    assert one["protocol"] == two["protocol"]
    for key in ("cluster_sizes", "loss", "sure"):
        assert one["details"][key] == two["details"][key]
    assert one["metrics"] != two["metrics"] and found(inputs) == one and found(inputs, seed=1) != one


def test_neighbours_are_what_is_learned_of():
    """With neighbours drawn by chance the same rows agree less, and classes are found less well."""
    inputs, chance = inputs_of(0.2), inputs_of(0.2)
    chance.neighbours = np.random.default_rng(0).permuted(chance.neighbours, axis=0)
    one, other = found(inputs), found(chance)
    assert one["metrics"]["nmi"] > 0.9 and other["metrics"]["nmi"] < 0.7
    assert one["details"]["loss"][-1] < other["details"]["loss"][-1] - 0.8


def test_the_step_reads_both_tables_and_the_graph(tmp_path):
    inputs = inputs_of(0.1)
    files = {"graph": [tmp_path / "knn.arrow"]}
    write_table(files["graph"][0], pa.table({"neighbours": fixed_size_list(inputs.neighbours)}), {})
    for split, table in (("train", inputs.train), ("test", inputs.test)):
        rows = fixed_size_list(table.feature)
        columns = {"index": table.index, "label": pa.array(table.labels, pa.int32()), "feature": rows, "embedding": rows}
        write_table(tmp_path / f"{split}.arrow", pa.table(columns), {})
        write_json(tmp_path / split / "manifest.json", {"classes": inputs.classes})
        files |= {split: [tmp_path / f"{split}.arrow"], f"{split}_data": [tmp_path / split / "manifest.json"]}
    options = {"name": "scan", **vars(scan.Config(k=5))}
    read = _graph_inputs.read(Job("evaluate", {"evaluation": options}, files, {}, "no code", None), False)
    assert (read.neighbours == inputs.neighbours).all() and read.neighbours.dtype == np.int64
    assert found(read) == found(inputs)


def experiment(k: int = 20, dataset: str = "digits", **graph) -> dict:
    return {
        "evaluations": {"sc": {"name": "scan", "k": k}}, "evaluation_datasets": {"sc": dataset}, "dataset_id": "digits",
        "datasets": {"digits": {"name": "digits"}}, "graph": {"snapshot": True, "k": 20, **graph},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [({"snapshot": False}, "graph.snapshot is false; valid: true"), ({"k": 21}, "k is 21, and graph.k 20; valid: at most that"),
     ({"dataset": "other"}, "which is of 'digits', and its dataset is 'other'; valid: none of its own")],
)  # fmt: skip
def test_a_study_without_a_graph_for_it_is_refused_when_it_is_read(options, words):
    needs.check_evaluations(experiment())
    with pytest.raises(UserError, match=f"evaluations.sc: scan takes the neighbours in the graph of its stage.*{words}"):
        needs.check_evaluations(experiment(**options))


def test_of_several_beginnings_that_of_the_smallest_loss_counts():
    inputs = inputs_of(0.5)
    alone = [found(inputs, seed=seed)["details"] for seed in range(3, 6)]
    best = found(inputs, seed=1, tries=3)["details"]
    assert best == min(alone, key=lambda details: details["loss"][-1]) and len({str(each) for each in alone}) == 3


def test_the_published_setting_is_the_default_but_for_the_neighbours_which_every_graph_has():
    config = scan.Config()
    assert config.k == Graph().k
    assert (config.entropy, config.learning_rate, config.weight_decay, config.batch_size) == (5.0, 1e-4, 1e-4, 128)
    assert (config.epochs, config.confidence) == (50, 0.99)


def test_memory_counts_features_and_neighbours(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    inputs = inputs_of(0.1)
    assert scan.memory(scan.Config(k=5), inputs) >= 4 * 8 * 280 + 8 * 200 * 5
