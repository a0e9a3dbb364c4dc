"""Each test image's answer beside the metrics: packed and read again, refused where it contradicts them, right for each image."""

import dataclasses

import numpy as np
import pytest
from test_knn_and_linear import blobs, configured, knn_by_loops

from invp.data.answers import packed, unpacked
from invp.plumbing.files import read_json
from invp.plumbing.jobs import Job
from invp.steps import _evaluation, evaluate


@pytest.mark.parametrize("images", [1, 7, 8, 361])
def test_answers_come_back_in_their_order(images):
    right = np.random.default_rng(images).random(images) < 0.7
    found = unpacked(packed(right), images)
    assert found.dtype == bool and found.tolist() == right.tolist()


def test_the_first_image_is_the_highest_bit_and_fifty_thousand_take_few_letters():
    assert packed(np.array([True, False, False, False, False, False, False, True])) == "gQ=="  # 0x81
    assert len(packed(np.zeros(50_000, bool))) < 8400


def test_knn_says_of_each_image_what_loops_say():
    inputs = blobs()
    plugin, config = configured("knn", k=[7, 3], features="feature")
    right = plugin.evaluate(config, inputs, seed=0, device="cpu")["answers"]
    truth = inputs.test.labels
    for name, k in (("top1", 7), ("top1_k7_t0.07", 7), ("top1_k3_t0.07", 3)):
        assert right[name] == [one == other for one, other in zip(knn_by_loops(inputs, k, 0.07), truth, strict=True)]


@pytest.mark.parametrize("name", ["knn", "linear"])
def test_each_accuracy_is_the_share_of_its_answers(name):
    inputs = blobs()
    plugin, config = configured(name)
    found = plugin.evaluate(config, inputs, seed=0, device="cpu")
    shares = {key: 100 * sum(own) / len(own) for key, own in found["answers"].items()}
    assert shares == pytest.approx({key: value for key, value in found["metrics"].items() if not key.startswith("validation")})
    confusion, truth = np.array(found["details"]["confusion"]), inputs.test.labels
    by_class = [np.array(found["answers"]["top1"])[truth == label].sum() for label in range(6)]
    assert by_class == confusion.diagonal().tolist(), "the answers stand in the order of the test images"


def evaluated(tmp_path, monkeypatch, **changes) -> dict:
    """The metrics.json of knn on blobs, after changes of what the plug-in returns."""
    plugin, config = configured("knn", k=[7], features="feature")
    real = plugin.evaluate
    monkeypatch.setattr(plugin, "evaluate", lambda *given, **options: {**real(*given, **options), **changes})
    monkeypatch.setattr(_evaluation, "inputs_of", lambda job: blobs())
    keys = (
        "experiment",
        "evaluation_name",
        "dataset",
        "pretraining_dataset",
        "objective",
        "given_weights",
        "encoder_name",
        "head_kind",
    )
    options = {"evaluation": {"name": "knn", **dataclasses.asdict(config)}, "epochs": 1, "seed": 0, "stage": 1}
    job = Job("evaluate", {**dict.fromkeys(keys, ""), **options}, {}, {"metrics": tmp_path / "metrics.json"}, "code")
    job.arguments.scratch = None
    evaluate.run(job)
    return read_json(tmp_path / "metrics.json")


def test_the_answers_lie_at_the_end_of_the_metrics(tmp_path, monkeypatch):
    content = evaluated(tmp_path, monkeypatch)
    assert list(content)[-1] == "answers" and set(content["answers"]) == set(content["metrics"])
    right = unpacked(content["answers"]["top1"], content["protocol"]["test_images"])
    expected = [one == other for one, other in zip(knn_by_loops(blobs(), 7, 0.07), blobs().test.labels, strict=True)]
    assert right.tolist() == expected
    longest = max(map(len, (tmp_path / "metrics.json").read_text().splitlines()))
    assert longest < 400, "which people read"


@pytest.mark.parametrize("right", [[True] * 90, [True] * 89])
def test_answers_that_contradict_the_metric_are_a_mistake_of_the_evaluation(right, tmp_path, monkeypatch):
    with pytest.raises(AssertionError):
        evaluated(tmp_path, monkeypatch, answers={"top1": right})
    assert not (tmp_path / "metrics.json").exists()


def test_an_evaluation_without_answers_keeps_none(tmp_path, monkeypatch):
    plugin, _ = configured("knn")
    real = plugin.evaluate
    monkeypatch.setattr(
        plugin, "evaluate", lambda *given, **options: {k: v for k, v in real(*given, **options).items() if k != "answers"}
    )
    assert evaluated(tmp_path, monkeypatch)["answers"] == {}
