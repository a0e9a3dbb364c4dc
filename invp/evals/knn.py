"""Weighted k-nearest-neighbour classification (Wu et al., CVPR 2018): votes exp(similarity / temperature).

N training images, Q test images, K neighbours.
"""

import sys
from dataclasses import dataclass

import faiss
import numpy as np

from invp.core.metrics import accuracy_by_class, confusion_matrix, topk_accuracy, weighted_votes
from invp.evals._inputs import FeatureInputs
from invp.plumbing.metrics import PERCENT
from invp.plumbing.options import option

NEEDS = "features"
GPU = False
METRICS = {"top*": PERCENT}
DIFFERS = (
    "training images are embedded anew, without augmentation (published: rows of the memory bank, running means over augmented views)",
    "the stage's epoch (published: the epoch best on the test images)",
)


@dataclass
class Config:
    """The first k and temperature give the metric `top1`; further ones are reported beside it."""

    k: list[int] = option(
        [200], "neighbours that vote; all training images if they are fewer, which metric and protocol say", least=1, filled=True
    )
    temperature: list[float] = option([0.07], "of the votes' weights", above=0, filled=True)
    features: str = option("embedding", "embedding: the head's output; feature: the encoder's", choices=("embedding", "feature"))


def evaluate(config: Config, inputs: FeatureInputs, *, seed: int, device: str) -> dict:
    """Top-1 and top-5 in % for every k and temperature, from one exact search; of equal votes the lower class wins."""
    train, test = (np.ascontiguousarray(getattr(part, config.features), np.float32).copy() for part in (inputs.train, inputs.test))
    faiss.normalize_L2(train)
    faiss.normalize_L2(test)
    index = faiss.IndexFlatIP(train.shape[1])
    index.add(train)
    used = list(dict.fromkeys(min(k, len(train)) for k in config.k))
    asked = [str(k) for k in config.k if k > len(train)]
    fewer = f"{len(train)}, not {', '.join(asked)}: there are no more training images" if asked else ""
    if fewer:
        print(f"knn: k is {fewer}", file=sys.stderr)
    similarities, numbers = index.search(test, max(used))
    labels, truth, num_classes = inputs.train.labels[numbers], inputs.test.labels, len(inputs.classes)
    metrics: dict[str, float] = {}
    details: dict = {"classes": inputs.classes}
    for k in used:
        for temperature in config.temperature:
            scores = weighted_votes(similarities[:, :k], labels[:, :k], temperature, num_classes)
            suffix = f"_k{k}_t{temperature:g}"
            for top in (1, 5):
                metrics[f"top{top}{suffix}"] = topk_accuracy(scores, truth, top)
            if (k, temperature) == (used[0], config.temperature[0]):
                metrics |= {f"top{top}": metrics[f"top{top}{suffix}"] for top in (1, 5)}
                confusion = confusion_matrix(scores.argmax(1), truth, num_classes)
                details["confusion"] = confusion.tolist()
                details["accuracy_by_class"] = accuracy_by_class(confusion)
    protocol = {
        "kind": "weighted kNN, votes exp(similarity / temperature), exact search, cosine similarity",
        "features": "head's output" if config.features == "embedding" else "encoder's pooled output",
        "k": used,
        **({"fewer_neighbours": fewer} if fewer else {}),
        "temperature": config.temperature,
        "training_images": len(train),
        "test_images": len(test),
        "crop": "whole image, of photographs the central crop, no augmentation",
        "choice": "first k and temperature of the list; nothing is chosen on test data",
        "differs": "; ".join(DIFFERS),
    }
    return {"metrics": metrics, "protocol": protocol, "details": details}
