"""Contact sheets of k-means clusters of the training images' embeddings: what a network puts together, without any label."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.data.shards import Shards
from invp.data.tables import Rows
from invp.figures._inputs import FigureInputs
from invp.figures._style import COLOURS, plotting, save, sheet, thumbnail
from invp.plumbing.errors import UserError
from invp.plumbing.memory import require
from invp.plumbing.options import option

NEEDS = ("stage_features",)
UNLABELLED = True
MULTI_LABEL = True


@dataclass
class Config:
    """Clusters of the last stage, the largest first."""

    num_clusters: int = option(10, "of k-means, at most as many as images", least=2)
    shown: int = option(12, "images of a cluster: the nearer half to its centroid, then others drawn by the seed", least=2)
    rows: int = option(20, "clusters that are shown, at most", least=1)


def chosen_of(
    members: np.ndarray, distance: np.ndarray, shown: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Of a cluster's images (`members`) those that are shown: the nearest to the centroid, nearest first, and some drawn of the others."""
    order = members[np.argsort(distance[members], kind="stable")]
    near = order[: (shown + 1) // 2]
    return near, np.sort(generator.permutation(order[len(near) :])[: shown - len(near)])


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws a row a cluster; returns sizes, the images that are shown, and every image's cluster."""
    stage = max(inputs.stage_features)
    rows = Rows(inputs.stage_features[stage], "embedding")
    if config.num_clusters > len(rows):
        raise UserError(f"num_clusters is {config.num_clusters}, of {len(rows)} images; valid: at most the images")
    require(12 * len(rows) * rows.shape[1], f"{len(rows):,} training images of {rows.shape[1]:,} numbers", "figure")
    import torch  # for this one alone: other figures do not wait for it

    from invp.core.clusters import kmeans

    seed, shards = inputs.experiment["seed"], Shards(inputs.dataset["train"])
    found = kmeans(torch.from_numpy(np.asarray(rows, np.float32)), config.num_clusters, seed=seed)
    cluster, distance = found.cluster.numpy(), found.distance.numpy()
    sizes = np.bincount(cluster, minlength=config.num_clusters)
    order = [int(each) for each in np.argsort(-sizes, kind="stable")[: config.rows] if sizes[each]]
    generator, pyplot, data = np.random.default_rng(seed), plotting(), []
    size = (0.7 * config.shown + 1, 1.02 * len(order) + 0.9)
    figure, panels = pyplot.subplots(len(order), 1, figsize=size, squeeze=False, layout="constrained")
    for axes, number in zip(panels[:, 0], order, strict=True):
        near, others = chosen_of(np.flatnonzero(cluster == number), distance, config.shown, generator)
        images, frames = [*near, *others], [COLOURS[0]] * len(near) + ["#aaaaaa"] * len(others)
        sheet(axes, [thumbnail(shards, int(image)) for image in images], frames, [f"{distance[image]:.2f}" for image in images])
        axes.set_xlim(0, config.shown)
        axes.set_title(f"cluster {number}: {sizes[number]:,} images", fontsize=7, loc="left", pad=2)
        data.append({"cluster": number, "size": int(sizes[number]), "near": near.tolist(), "others": others.tolist()})
    when = f"epoch {stage}" if stage else "untrained"
    figure.supxlabel(
        f"k-means of {len(rows):,} training images, {config.num_clusters} clusters, {when}; coloured frames: the nearest to the centroid,\n"
        "grey ones: others, drawn by the seed; below an image its distance to the centroid. No label is used",
        fontsize=7,
    )
    save(figure, inputs, out)
    return {"shown": data, "cluster": cluster.tolist()}
