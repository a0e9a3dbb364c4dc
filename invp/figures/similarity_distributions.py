"""Fig. 2a of InvP: how similar an image is to the nearest of its class and of others, and how far the two distributions overlap."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.core.metrics import nearest_by_class, overlap
from invp.figures._embeddings import embeddings
from invp.figures._inputs import FigureInputs
from invp.figures._style import COLOURS, plain, plotting, save
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

NEEDS = ("features",)


@dataclass
class Config:
    """Test images, each with its nearest of its own class and of others."""

    images: int = option(1500, "seeded images, at most", least=1)
    neighbours: int = option(5, "nearest on either side", least=1)
    bins: int = option(100, "of the cosine similarity from -1 to 1", least=2)


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws both histograms; returns them with means, deviations and the overlap (shared area of the densities, 0 to 1)."""
    rows, labels = embeddings(inputs, "test")
    anchors = np.random.default_rng(inputs.experiment["seed"]).permutation(len(rows))[: config.images]
    found = nearest_by_class(rows, labels, anchors, config.neighbours)
    if not len(found[0]):
        raise UserError(f"similarity_distributions needs {config.neighbours} more test images of a class, and as many of others")
    edges = np.linspace(-1, 1, config.bins + 1)
    parts = dict(zip(("same class", "other classes"), found, strict=True))
    densities = {name: np.histogram(np.clip(values, -1, 1), edges)[0] / values.size for name, values in parts.items()}
    shared = overlap(*found, config.bins)
    pyplot = plotting()
    figure, axes = pyplot.subplots(figsize=(5.2, 3.2), layout="constrained")
    for (name, density), colour in zip(densities.items(), COLOURS, strict=False):
        axes.stairs(density, edges, fill=True, alpha=0.45, color=colour, label=f"{name}, mean {parts[name].mean():.2f}")
    axes.set(xlabel=f"cosine similarity to the {config.neighbours} nearest test images", ylabel="share of pairs")
    axes.set_title(f"overlap {shared:.3f}", fontsize=9)
    axes.set_xlim(max(-1.0, float(min(v.min() for v in parts.values())) - 0.05), 1.02)
    axes.legend(frameon=False, fontsize=8)
    plain(axes)
    save(figure, inputs, out)
    moments = {name: {"mean": float(v.mean()), "deviation": float(v.std()), "pairs": int(v.size)} for name, v in parts.items()}
    return {
        "overlap": shared,
        "moments": moments,
        "edges": edges.tolist(),
        "densities": {n: d.tolist() for n, d in densities.items()},
    }
