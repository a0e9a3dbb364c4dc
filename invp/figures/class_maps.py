"""Fig. 1D of the companion study in PNAS: multi-dimensional scaling of the best and worst classes, and of one that falls apart by itself."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from invp.data.shards import Shards
from invp.figures._embeddings import embeddings, weighted_answers
from invp.figures._inputs import FigureInputs
from invp.figures._style import COLOURS, plain, plotting, save, shown, thumbnail
from invp.plumbing.options import option

NEEDS = ("features",)


@dataclass
class Config:
    """The classes of the highest and of the lowest kNN accuracy on test images, and the training class that splits best.

    The class that splits is the one whose best k-means clustering, of 2 to `clusters`, has the highest silhouette.
    """

    classes: int = option(3, "of the highest and as many of the lowest accuracy", least=1)
    per_class: int = option(100, "images of each that are placed, at most", least=10)
    clusters: int = option(4, "that k-means tries, at most", least=2)
    k: int = option(100, "neighbours that vote; all training images if they are fewer, which the figure says", least=1)
    temperature: float = option(0.07, "of the votes' weights", above=0)
    iterations: int = option(100, "of k-means", least=1)


def placed(rows: np.ndarray, iterations: int, seed: int) -> np.ndarray:
    """Places of unit rows (NxD) in two dimensions, Nx2, whose distances are as near as may be to those of the rows."""
    from sklearn.manifold import MDS

    return MDS(2, n_init=1, init="random", max_iter=iterations, random_state=seed).fit_transform(rows)


def splitting(rows: np.ndarray, labels: np.ndarray, config: Config, seed: int) -> tuple[int, np.ndarray, np.ndarray, float] | None:
    """The class that splits best: its number, its rows' numbers, their clusters, and the silhouette."""
    from sklearn.cluster import KMeans
    from sklearn.metrics import silhouette_score

    best, generator = None, np.random.default_rng(seed)
    for label in np.unique(labels):
        own = generator.permutation(np.flatnonzero(labels == label))[: config.per_class]
        for count in range(2, config.clusters + 1):
            if len(own) <= 4 * count:
                continue
            clusters = KMeans(count, n_init=5, random_state=seed).fit_predict(rows[own])
            if np.bincount(clusters).min() < 0.1 * len(own):  # a few stragglers are no kind of their own
                continue
            score = float(silhouette_score(rows[own], clusters))
            if best is None or score > best[3]:
                best = int(label), own, clusters, score
    return best


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws the three maps; returns places, accuracies and clusters."""
    seed = inputs.experiment["seed"]
    (train, labels), (test, truth) = embeddings(inputs, "train"), embeddings(inputs, "test")
    answers, nearest, _ = weighted_answers(train, labels, test, config.k, config.temperature)
    shards = Shards(inputs.dataset["train"])
    present = np.unique(truth)
    accuracy = {int(c): float(100 * (answers[truth == c] == c).mean()) for c in present}
    order = sorted(accuracy, key=lambda c: -accuracy[c])
    pyplot = plotting()
    figure, panels = pyplot.subplots(1, 3, figsize=(11.5, 3.9), layout="constrained")
    data: dict = {"accuracy": {shards.classes[c]: accuracy[c] for c in order}}
    generator = np.random.default_rng(seed)
    for axes, name, chosen in zip(panels, ("best", "worst"), (order[: config.classes], order[-config.classes :]), strict=False):
        own = np.concatenate([generator.permutation(np.flatnonzero(truth == c))[: config.per_class] for c in chosen])
        at = placed(test[own], config.iterations, seed)
        for c, colour in zip(chosen, COLOURS, strict=False):
            here = truth[own] == c
            axes.scatter(
                *at[here].T, s=9, color=colour, label=f"{shown(shards.classes[c])}: {accuracy[c]:.0f} % of {(truth == c).sum()}"
            )
        axes.set_title(f"{name} classes by kNN, K = {nearest.shape[1]}, test images", fontsize=9)
        axes.legend(frameon=False, fontsize=7)
        data[name] = {"classes": [shards.classes[c] for c in chosen], "images": own.tolist(), "positions": np.round(at, 4).tolist()}
    found = splitting(train, labels, config, seed)
    axes = panels[2]
    if found is None:
        axes.text(0.5, 0.5, "no class is large enough to split", ha="center", transform=axes.transAxes)
    else:
        label, own, clusters, score = found
        at = placed(train[own], config.iterations, seed)
        for cluster, colour in zip(range(clusters.max() + 1), COLOURS, strict=False):
            here = clusters == cluster
            axes.scatter(*at[here].T, s=9, color=colour)
            centre = train[own][here].mean(0)
            typical = np.flatnonzero(here)[np.argsort(-(train[own][here] @ centre))[:3]]
            row = np.concatenate([thumbnail(shards, int(own[image]), 28) for image in typical], 1)
            _inset(axes, row, at[typical[0]], colour)
        axes.set_title(f"{shown(shards.classes[label])}: {clusters.max() + 1} clusters found, silhouette {score:.2f}", fontsize=9)
        data["splits"] = {"class": shards.classes[label], "silhouette": score, "images": own.tolist(),
                          "clusters": clusters.tolist(), "positions": np.round(at, 4).tolist()}  # fmt: skip
    plain(*panels)
    for axes in panels:
        axes.set(xticks=[], yticks=[])
    save(figure, inputs, out)
    return data


def _inset(axes: Any, image: np.ndarray, at: np.ndarray, colour: str) -> None:
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage

    axes.add_artist(
        AnnotationBbox(OffsetImage(image, zoom=0.9), at, frameon=True, pad=0.1, bboxprops={"edgecolor": colour, "linewidth": 1.2})
    )
