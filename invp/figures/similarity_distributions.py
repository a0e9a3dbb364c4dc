"""Fig. 2a of InvP: how similar an image is to those of its class and to others, and how far the two distributions overlap."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from invp.errors import UserError
from invp.figures._style import COLOURS, plain, plotting, save
from invp.files import read_table
from invp.tables import matrix

NEEDS = ("features",)


@dataclass
class Config:
    """`anchors` seeded test images against all other test images, in `bins` of the cosine similarity."""

    anchors: int = 1000
    bins: int = 100

    def __post_init__(self) -> None:
        if self.anchors < 1 or self.bins < 2:
            raise UserError("anchors must be at least 1, and bins at least 2")


def draw(config: Config, inputs: Any, out: Path) -> dict:
    """Draws both histograms; returns them with means, deviations and the overlap (shared area of the densities, 0 to 1)."""
    table = read_table(inputs.features["test"])
    rows, labels = matrix(table, "embedding").astype(np.float32), table["label"].to_numpy()
    anchors = np.random.default_rng(inputs.experiment["seed"]).permutation(len(rows))[: config.anchors]
    similarities = rows[anchors] @ rows.T
    same = labels[anchors][:, None] == labels[None]
    other = ~same
    same[np.arange(len(anchors)), anchors] = False  # itself
    if not same.any() or not other.any():
        raise UserError("similarity_distributions needs images of at least two classes, several of each")
    edges = np.linspace(-1, 1, config.bins + 1)
    parts = {"same class": similarities[same], "other classes": similarities[other]}
    densities = {name: np.histogram(values, edges)[0] / len(values) for name, values in parts.items()}
    overlap = float(np.minimum(*densities.values()).sum())
    pyplot = plotting()
    figure, axes = pyplot.subplots(figsize=(5.2, 3.2), layout="constrained")
    for (name, density), colour in zip(densities.items(), COLOURS, strict=False):
        axes.stairs(density, edges, fill=True, alpha=0.45, color=colour, label=f"{name}, mean {parts[name].mean():.2f}")
    axes.set(xlabel="cosine similarity of test embeddings", ylabel="share of pairs", title=f"overlap {overlap:.3f}")
    axes.title.set_fontsize(9)
    axes.legend(frameon=False, fontsize=8)
    plain(axes)
    save(figure, inputs, out)
    about = {name: {"mean": float(v.mean()), "deviation": float(v.std()), "pairs": int(len(v))} for name, v in parts.items()}
    return {"overlap": overlap, "about": about, "edges": edges.tolist(), "densities": {n: d.tolist() for n, d in densities.items()}}
