"""A run of two stages to look at: 200 digits, joined by their pixels with noise at the first stage, and as they are at the second."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import torch

from invp.core.graph_measures import measures
from invp.core.propagation import discover
from invp.data.shards import Shards
from invp.data.tables import fixed_size_list
from invp.plumbing import config
from invp.plumbing.files import write_json, write_table
from invp.plumbing.jobs import Job
from invp.steps import explorer, prepare
from invp.steps.graph import exact_neighbours, positions

STAGES, K, FANOUT, STEPS, TAKEN = [1, 2], 10, 4, 3, 8


def make_dataset(folder: Path) -> None:
    """200 digits, 20 of each class."""
    prepare.write_split(config.plugin_options("datasets", {"name": "digits", "per_class": 20}, "test"), "train", None, folder, 1)


def make_graph(folder: Path, dataset: Path, stage: int, anchors: int = 200, noise: float = 0) -> None:
    """The files of a stage's graph: positives by walks from the last `anchors` images; the loss takes the TAKEN least similar."""
    shards = Shards(dataset)
    images = shards.images(torch.arange(len(shards.labels))).flatten(1).numpy().astype(np.float32)
    rows = images + np.random.default_rng(stage).normal(size=images.shape) * (noise or (60 if stage == 1 else 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    similarities, neighbours = exact_neighbours(rows, K)
    table = {"neighbours": neighbours, "similarities": similarities, "position": positions(rows)}
    columns = {name: fixed_size_list(each) for name, each in table.items()}
    write_table(folder / "knn.arrow", pa.table({"index": np.arange(len(rows)), **columns}))
    pairs = []
    for anchor in range(len(rows) - anchors, len(rows)):
        found = discover(torch.from_numpy(neighbours[:, :FANOUT]), torch.tensor([anchor]), STEPS)
        places, distances = found.index[found.mask].numpy(), found.distance[found.mask].numpy()
        near = rows[places] @ rows[anchor]
        least = set(np.argsort(near)[:TAKEN])
        pairs += [(anchor, p, d, s, at in least) for at, (p, d, s) in enumerate(zip(places, distances, near, strict=True))]
    types = {"anchor": pa.int64(), "positive": pa.int64(), "distance": pa.int8(), "similarity": pa.float32(), "chosen": pa.bool_()}
    columns = {name: pa.array(list(each), kind) for (name, kind), each in zip(types.items(), zip(*pairs, strict=True), strict=True)}
    write_table(folder / "positives.arrow", pa.table(columns))
    write_json(folder / "summary.json", {"measures": measures(neighbours, shards.labels.numpy(), None)})


def make_page(folder: Path, dataset: Path, graphs: Path, **section: object) -> Path:
    """The explorer of the graphs in `graphs`/stage-1 and -2, and its map, in `folder`."""
    objective = {"positives": "hard", "steps": STEPS, "k": FANOUT}
    section = {"name": "digits-pixels", "title": "Pixels", "seed": 0, "stages": STAGES, "objective": objective, **section}
    inputs = {"graph": [graphs / f"stage-{stage}/knn.arrow" for stage in STAGES], "dataset": [dataset / "manifest.json"]}
    outputs = {"page": folder / "explorer.html", "map": folder / "map.arrow"}
    explorer.run(Job("explorer", section, inputs, outputs, "no code"))
    return outputs["page"]
