"""Counts that only the images can say: more than there are is an error, or what was used is said; no name and no protocol lies."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from test_pretrain import SMALL

from invp.evals._inputs import FeatureInputs, FeatureTable
from invp.figures import similarity_by_rank
from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.plumbing.config import instance, plugin_options, structured
from invp.plumbing.errors import UserError
from invp.plumbing.files import write_table
from invp.plumbing.plugins import load_plugin
from invp.plumbing.sections import Encoder
from invp.steps import graph

N = 20
ALL = {"num_negatives": 0, "num_positives": 5, "num_background": 10, "num_clusters": 4, "norm_group": 0}


def objective(name: str, **options):
    module = load_plugin("objectives", name)
    values = {"name": name, **SMALL.get(name, {})} | {k: v for k, v in ALL.items() if hasattr(module.Config, k)}
    config = instance(module.Config, plugin_options("objectives", values | options, "test"))
    encoder = build_encoder(structured(Encoder, {"name": "resnet_small", "width": 8}, "test"), 8)
    return module.Objective(config, encoder, build_head({"kind": "none", "dimensions": 8}, 32), N, seed=0)


@pytest.mark.parametrize(("name", "key", "largest", "options"), [
    ("invp", "num_negatives", N, {}),
    ("invp", "num_positives", N - 1, {}),
    ("invp", "k", N - 1, {"steps": 1}),
    ("invp", "num_neighbours", N - 1, {"positives": "knn"}),
    ("instance_discrimination", "num_negatives", N, {}),
    ("pirl", "num_negatives", N, {"loss": "topm"}),
    ("local_aggregation", "num_negatives", N, {"loss": "topm"}),
    ("local_aggregation", "num_background", N, {"loss": "full"}),
    ("local_aggregation", "num_clusters", N, {"loss": "full"}),
])  # fmt: skip
def test_more_rows_than_images_is_an_error_that_names_the_largest_count(name, key, largest, options):
    objective(name, **options, **{key: largest})
    with pytest.raises(UserError, match=f"^objective: {key} must be at most {largest}, .*, and is {largest + 1}$"):
        objective(name, **options, **{key: largest + 1})


def test_noise_is_drawn_and_may_be_more_than_there_are_images():
    assert objective("instance_discrimination", loss="infonce", num_negatives=3 * N)


def test_a_graph_of_more_neighbours_than_images_is_an_error(tmp_path):
    rows = torch.eye(N)
    torch.save({"objective": {"bank": rows}}, tmp_path / "checkpoint.pt")
    (tmp_path / "train").mkdir()
    options = {"k": N, "of": "bank", "index": "exact", "probes": 1, "anchors": 5, "snapshot": True}
    section = {"graph": options, "objective": {"name": "instance_discrimination"}, "seed": 0, "stage": 1}
    inputs = {"checkpoint": tmp_path / "checkpoint.pt", "dataset": tmp_path / "train/manifest.json"}
    job = SimpleNamespace(
        section=section, outputs={"knn": tmp_path / "knn.arrow"}, record={}, input=inputs.get, optional=lambda _: None
    )
    with pytest.raises(UserError, match=f"graph.k is {N}, and there are {N} images; valid: at most {N - 1}"):
        graph.run(job)


def features(train: int, test: int = 30) -> FeatureInputs:
    rng = np.random.default_rng(0)

    def part(count: int) -> FeatureTable:
        rows = rng.normal(size=(count, 6)).astype(np.float32)
        return FeatureTable(rows, rows, np.arange(count) % 3, np.arange(count))

    return FeatureInputs(part(train), part(test), ["a", "b", "c"])


def test_knn_names_the_neighbours_that_vote(capsys):
    knn = load_plugin("evals", "knn")
    found = knn.evaluate(knn.Config(k=[200, 5, 150]), features(100), seed=0, device="cpu")
    assert set(found["metrics"]) == {f"top{t}{s}" for t in (1, 5) for s in ("", "_k100_t0.07", "_k5_t0.07")}
    assert found["metrics"]["top1"] == found["metrics"]["top1_k100_t0.07"] and found["protocol"]["k"] == [100, 5]
    words = "100, not 200, 150: there are no more training images"
    assert found["protocol"]["fewer_neighbours"] == words and words in capsys.readouterr().err
    enough = knn.evaluate(knn.Config(k=[100]), features(100), seed=0, device="cpu")
    assert "fewer_neighbours" not in enough["protocol"] and not capsys.readouterr().err


def test_a_protocol_has_the_batch_size_that_was_used():
    linear = load_plugin("evals", "linear")
    found = linear.evaluate(linear.Config(epochs=1, batch_size=256), features(100), seed=0, device="cpu")
    assert found["protocol"]["batch_size"] == 100


def ranked_inputs(folder, count: int) -> SimpleNamespace:
    """What the figure similarity-by-rank reads, of so many images."""
    import pyarrow as pa

    from invp.data.tables import fixed_size_list

    rows = features(count).train
    table = pa.table({"label": pa.array(rows.labels), "embedding": fixed_size_list(rows.embedding)})
    write_table(folder / "f.arrow", table)
    return SimpleNamespace(experiment={"seed": 0, "title": "t"}, stage_features={1: folder / "f.arrow"})


def test_ranks_are_numbers_on_their_axis(tmp_path, monkeypatch):
    """They were drawn as the source of a formula."""
    seen = []

    def look(figure, inputs, out) -> None:
        figure.canvas.draw()
        seen.extend(label.get_text() for label in figure.axes[0].get_xticklabels() if label.get_text())

    monkeypatch.setattr(similarity_by_rank, "save", look)
    similarity_by_rank.draw(similarity_by_rank.Config(), ranked_inputs(tmp_path, 200), tmp_path / "f.png")
    assert {"1", "10", "100"} <= set(seen) and all(text.replace(",", "").isdigit() for text in seen), seen


def test_a_figure_of_more_neighbours_than_images_is_an_error(tmp_path):
    inputs = ranked_inputs(tmp_path, 8)
    with pytest.raises(UserError, match="neighbours is 10, of 8 images; valid: at most 7"):
        similarity_by_rank.draw(similarity_by_rank.Config(), inputs, tmp_path / "f.png")
