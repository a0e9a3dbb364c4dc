"""Make the k-nearest-neighbour graph of a stage, of the bank's rows or of features; its positives and its measures.

N rows, D dimensions, k neighbours.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from invp.core.graph_measures import class_confusion, measures, shares_by_kind
from invp.core.ranks import ROWS, rankme, uniformity
from invp.data.tables import Rows, fixed_size_list, labels_of, matrix, unit_rows
from invp.plumbing.config import instance
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json, read_table, write_json, write_table
from invp.plumbing.jobs import Job
from invp.plumbing.memory import require
from invp.plumbing.plugins import load_plugin
from invp.training.checkpoint import load_checkpoint

GPU = True


def section(study: dict, *, experiment: str, seed: int, stage: int) -> dict:
    """The options of the graph, and those of the objective: its walks find the positives."""
    options = study["loaded"][experiment]
    return {"graph": options["graph"], "objective": options["objective"], "seed": seed, "stage": stage}


def check(experiment: dict) -> None:
    """UserError, when the study is read, for a graph that could not be made after the training."""
    options, objective = experiment["graph"], experiment["objective"]
    if not options["snapshot"]:
        return
    module = load_plugin("objectives", objective["name"])
    if options["of"] == "bank" and experiment["stages"][-1] > 0 and not hasattr(module, "MEMORY"):
        raise UserError(f"graph.of is 'bank'; valid with objective {objective['name']}, which keeps none: features")
    needed = module.neighbours_needed(instance(module.Config, objective)) if hasattr(module, "discovered") else 1
    if options["k"] < needed:
        raise UserError(
            f"graph.k is {options['k']}; valid with objective {objective['name']}, whose walks take {needed}: at least {needed}"
        )


def loads(section: dict) -> list[str]:
    """The objective's module: its rule finds the positives."""
    return [f"invp.objectives.{section['objective']['name']}"]


def exact_neighbours(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest of each row (NxD, unit length) by inner product, itself excluded: similarities and numbers, Nxk."""
    import faiss

    if not faiss.get_num_gpus():
        return without_self(*faiss.knn(rows, rows, min(k + 1, len(rows)), metric=faiss.METRIC_INNER_PRODUCT), k)
    index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(rows.shape[1]))
    index.add(rows)
    return without_self(*index.search(rows, min(k + 1, len(rows))), k)


def approximate_neighbours(rows: np.ndarray, k: int, probes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by an inverted file of about 4 sqrt(N) cells, of which `probes` are searched."""
    import faiss

    cells = max(1, min(len(rows) // 40, int(4 * len(rows) ** 0.5)))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(rows.shape[1]), rows.shape[1], cells, faiss.METRIC_INNER_PRODUCT)
    # Set before any copy to a GPU: such an index takes neither from a ParameterSpace. The cells are found by this index, from
    # this seed, with the distances of a GPU where there is one.
    index.cp.seed, index.nprobe = seed + 1, probes
    if faiss.get_num_gpus():
        index.clustering_index = faiss.index_cpu_to_all_gpus(faiss.IndexFlatIP(rows.shape[1]))
    index.train(rows)
    if faiss.get_num_gpus():
        index = faiss.index_cpu_to_all_gpus(index)
    index.add(rows)
    return without_self(*index.search(rows, min(k + 1, len(rows))), k)


def without_self(similarities: np.ndarray, numbers: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Takes each row's own number out of its k+1 found ones, or the last one where equal rows pushed it out."""
    own = numbers == np.arange(len(numbers))[:, None]
    own[~own.any(1), -1] = True
    keep = ~own
    shape = (len(numbers), numbers.shape[1] - 1)
    return similarities[keep].reshape(shape)[:, :k], numbers[keep].reshape(shape)[:, :k].astype(np.int64)


def recall_of(found: np.ndarray, rows: np.ndarray, k: int, seed: int, sample: int = 1000) -> float:
    """The share of the true k nearest neighbours that `found` (Nxk) holds, over a seeded sample of rows."""
    import faiss

    chosen = np.random.default_rng(seed).choice(len(rows), min(sample, len(rows)), replace=False)
    numbers = faiss.knn(rows[chosen], rows, k + 1, metric=faiss.METRIC_INNER_PRODUCT)[1]
    hits = [len(set(found[i]) & set([n for n in true if n != i][:k])) for i, true in zip(chosen, numbers, strict=True)]
    return float(np.mean(hits) / k)


def positions(rows: np.ndarray) -> np.ndarray:
    """The rows (NxD) on their two principal axes, Nx2 float32, each axis turned so that its largest entry is positive."""
    centred = rows - rows.mean(0)
    axes = np.linalg.eigh(centred.T @ centred)[1][:, ::-1][:, :2]
    axes = axes * np.sign(axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])])
    return (centred @ axes).astype(np.float32)


def rows_of(section: dict, checkpoint: Path, features: Path | None) -> tuple[np.ndarray, str]:
    """The unit rows to connect (NxD float32), and the words that say what they are; UserError if memory is too small for their graph."""
    if features is None:
        state = load_checkpoint(checkpoint)["objective"]
        rows, origin = state[load_plugin("objectives", section["objective"]["name"]).MEMORY].float().numpy(), "memory bank"
    else:
        rows, origin = Rows(features, "embedding"), "embeddings of the training images"
    require(memory(*rows.shape, section["graph"]), f"{len(rows):,} images of {rows.shape[1]:,} numbers", "graph")
    return unit_rows(rows), origin


def memory(num_rows: int, dimensions: int, options: dict) -> int:
    """Bytes: the rows, and again to search them by cells or to place them; and what is found, with its copies without the row itself."""
    return num_rows * (8 * dimensions + 4 * 12 * (options["k"] + 1))


def positives_of(section: dict, rows: np.ndarray, neighbours: np.ndarray, anchors: np.ndarray) -> dict[str, np.ndarray] | None:
    """The positives of the anchors by the objective's own rule, a row for each pair; None for objectives that discover none."""
    import torch

    module = load_plugin("objectives", section["objective"]["name"])
    if not hasattr(module, "discovered"):
        return None
    config = instance(module.Config, section["objective"])
    tensors = torch.from_numpy(rows), torch.from_numpy(neighbours)
    chunks = [module.discovered(config, *tensors, chunk) for chunk in torch.from_numpy(anchors).split(512)]
    return {name: torch.cat([chunk[name] for chunk in chunks]).numpy() for name in chunks[0]}


def positive_measures(pairs: dict[str, np.ndarray], labels: np.ndarray, rows: np.ndarray) -> dict[str, float]:
    """Same-class shares of the positives: all, by distance, and of as many plain neighbours, over pairs.

    Those that the loss takes and the others are compared within anchors that have both, whose number stands beside them.
    """
    import faiss

    same = labels[pairs["anchor"]] == labels[pairs["positive"]]
    result: dict[str, float] = {"positives_same_class": float(same.mean())}
    of_chosen, of_others, with_both = shares_by_kind(pairs["anchor"], same, pairs["chosen"])
    if with_both:
        result |= {"chosen_positives_same_class": of_chosen, "other_positives_same_class": of_others}
    result["anchors_with_chosen_and_other"] = with_both
    for step in np.unique(pairs["distance"]):
        result[f"positives_same_class_step_{step}"] = float(same[pairs["distance"] == step].mean())
    anchors, counts = np.unique(pairs["anchor"], return_counts=True)
    result["positives_per_anchor"] = float(counts.mean())
    nearest = faiss.knn(rows[anchors], rows, int(counts.max()) + 1, metric=faiss.METRIC_INNER_PRODUCT)[1]
    others = nearest != anchors[:, None]
    rank = np.cumsum(others, 1)
    taken = others & (rank <= counts[:, None])
    result["nearest_same_class_of_as_many"] = float((labels[nearest] == labels[anchors][:, None])[taken].mean())
    return result


def spread(rows: np.ndarray, seed: int) -> dict[str, float]:
    """How unit rows (NxD) lie on the sphere, of a seeded sample: these measures need neither labels nor neighbours."""
    sample = rows[np.sort(np.random.default_rng(seed).permutation(len(rows))[:ROWS])]
    return {"rankme": rankme(sample), "uniformity": uniformity(sample)}


def run(job: Job) -> None:
    """Writes knn.arrow, positives.arrow and summary.json of a stage."""
    section, out = job.section, job.outputs["knn"].parent
    seed, stage, record = section["seed"], section["stage"], job.record
    dataset, previous, features = job.input("dataset").parent, job.optional("previous"), job.optional("features")
    options = section["graph"]
    rows, what = rows_of(section, job.input("checkpoint"), features)
    k = options["k"]
    if k >= len(rows):
        raise UserError(f"graph.k is {k}, and there are {len(rows)} images; valid: at most {len(rows) - 1}")
    summary: dict[str, Any] = {"of": what, "num_nodes": len(rows), "dimensions": rows.shape[1], "k": k, "index": options["index"]}
    if options["index"] == "exact":
        similarities, neighbours = exact_neighbours(rows, k)
    else:
        similarities, neighbours = approximate_neighbours(rows, k, options["probes"], seed)
        summary["recall"] = recall_of(neighbours, rows, k, seed)
    labels = labels_of(dataset)
    before = matrix(read_table(previous), "neighbours") if previous else None
    summary["measures"] = measures(neighbours, labels, before) | spread(rows, seed)
    if "recall" in summary:
        summary["measures"]["recall"] = summary["recall"]
    anchors = np.sort(np.random.default_rng(seed).choice(len(rows), min(options["anchors"], len(rows)), replace=False))
    pairs = positives_of(section, rows, neighbours, anchors)
    if labels is not None:
        classes = read_json(dataset / "manifest.json")["classes"]
        summary["classes"] = classes
        summary["class_confusion"] = np.round(class_confusion(neighbours, labels, len(classes)), 5).tolist()
        if pairs is not None and len(pairs["anchor"]):
            summary["measures"] |= positive_measures(pairs, labels, rows)
    knn = {
        "index": np.arange(len(rows)),
        "neighbours": fixed_size_list(neighbours),
        "similarities": fixed_size_list(similarities),
        "position": fixed_size_list(positions(rows)),
    }
    write_table(out / "knn.arrow", pa.table(knn), record)
    types = {"anchor": pa.int64(), "positive": pa.int64(), "distance": pa.int8(), "similarity": pa.float32(), "chosen": pa.bool_()}
    columns = {name: pa.array([] if pairs is None else pairs[name], type) for name, type in types.items()}
    write_table(out / "positives.arrow", pa.table(columns), record)
    write_json(out / "summary.json", {**summary, "experiment_seed": seed, "stage": stage, "record": record})
