"""Fig. 2a of InvP as numbers: similarities to the nearest of the same class and to the nearest of others, and how far they overlap."""

from dataclasses import dataclass

import numpy as np

from invp.core.metrics import nearest_by_class, overlap
from invp.data.tables import unit_rows
from invp.evals._inputs import FeatureInputs
from invp.plumbing.errors import UserError
from invp.plumbing.metrics import Metric
from invp.plumbing.options import option

NEEDS = "features"
GPU = False
METRICS = {"overlap": Metric("share", "lower"), "gap": Metric("", "higher"), "*": Metric("", "")}
DIFFERS = (
    "the images and those that they are compared with are of the test split (published: 1,500 random images of a split not known to us)",
    "numbers of the two histograms, as the area that they share, are ours (published: the histograms)",
)


@dataclass
class Config:
    """Test images, each with its nearest of its own class and of others."""

    images: int = option(1500, "seeded images, at most", least=1)
    neighbours: int = option(5, "nearest on either side", least=1)
    bins: int = option(100, "of the cosine similarity from -1 to 1", least=2)
    features: str = option("embedding", "embedding: the head's output; feature: the encoder's", choices=("embedding", "feature"))


def evaluate(config: Config, inputs: FeatureInputs, *, seed: int, device: str) -> dict:
    """Means and deviations of both sets of similarities, their difference, and the area that the two histograms share."""
    rows = unit_rows(getattr(inputs.test, config.features))
    anchors = np.random.default_rng(seed).permutation(len(rows))[: config.images]
    same, other = nearest_by_class(rows, inputs.test.labels, anchors, config.neighbours)
    if not len(same):
        raise UserError(f"no test image has {config.neighbours} others of its class and as many of other classes")
    edges = np.linspace(-1, 1, config.bins + 1)
    return {
        "metrics": {
            "overlap": overlap(same, other, config.bins),
            "same_class_mean": float(same.mean()),
            "same_class_deviation": float(same.std()),
            "other_classes_mean": float(other.mean()),
            "other_classes_deviation": float(other.std()),
            "gap": float(same.mean() - other.mean()),
        },
        "protocol": {
            "kind": f"cosine similarities to the {config.neighbours} nearest of the same class and of other classes",
            "features": "head's output" if config.features == "embedding" else "encoder's pooled output",
            "images": f"{len(same)} seeded test images of {len(rows)}",
            "crop": "whole image, of photographs the central crop, no augmentation",
            "differs": "; ".join(DIFFERS),
        },
        "details": {
            "edges": np.round(edges, 4).tolist(),
            "same_class": (np.histogram(same, edges)[0] / same.size).tolist(),
            "other_classes": (np.histogram(other, edges)[0] / other.size).tolist(),
        },
    }
