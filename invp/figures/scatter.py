"""Test images in two dimensions by t-SNE of their embeddings, coloured by class."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.data.shards import Shards
from invp.figures._embeddings import embeddings
from invp.figures._inputs import FigureInputs
from invp.figures._style import plain, plotting, save, shown
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

NEEDS = ("features",)
LEGEND = "t-SNE keeps who is near whom: distances between islands, their sizes and their places mean nothing."


@dataclass
class Config:
    """Seeded test images of some classes."""

    images: int = option(2000, "that are placed, at most", least=10)
    classes: int = option(20, "drawn by the seed, if there are more", least=1, most=20)
    perplexity: float = option(30.0, "of t-SNE: about how many neighbours count; below the number of images", above=0)
    iterations: int = option(1000, "of t-SNE", least=250)


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws a point an image; returns images, classes and places."""
    from sklearn.manifold import TSNE

    seed, classes = inputs.experiment["seed"], Shards(inputs.dataset["test"]).classes
    rows, labels = embeddings(inputs, "test")
    generator, present = np.random.default_rng(seed), np.unique(labels)
    chosen = np.sort(generator.permutation(present)[: config.classes])
    images = np.sort(generator.permutation(np.flatnonzero(np.isin(labels, chosen)))[: config.images])
    if len(images) <= config.perplexity:
        raise UserError(f"perplexity is {config.perplexity:g}, of {len(images)} images; valid: less than the images")
    options = {"perplexity": config.perplexity, "max_iter": config.iterations}
    places = TSNE(**options, init="pca", random_state=seed).fit_transform(rows[images])
    pyplot = plotting()
    figure, axes = pyplot.subplots(figsize=(7.2, 5.2), layout="constrained")
    for number, label in enumerate(chosen):
        own = places[labels[images] == label]
        axes.scatter(*own.T, s=8, color=pyplot.get_cmap("tab20")(number), label=shown(classes[label]))
    axes.legend(frameon=False, fontsize=7, markerscale=2, loc="center left", bbox_to_anchor=(1, 0.5))
    plain(axes)
    axes.set(xticks=[], yticks=[])
    what = f"{len(images):,} of {len(rows):,} test images, {len(chosen)} of {len(present)} classes"
    figure.supxlabel(f"{what}\n{LEGEND}", fontsize=7)
    save(figure, inputs, out)
    return {"images": images.tolist(), "labels": labels[images].tolist(), "places": np.round(places, 4).tolist()}
