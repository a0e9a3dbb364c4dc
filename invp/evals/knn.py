"""Weighted k-nearest-neighbour classification (Wu et al., CVPR 2018): votes exp(similarity / temperature).

N training images, Q test images, F numbers of each, K neighbours, C classes.
"""

import sys
from dataclasses import dataclass

import faiss
import numpy as np

from invp.core.metrics import accuracy, accuracy_by_class, confusion_matrix, places, weighted_votes
from invp.data.tables import Rows, blocks
from invp.evals._inputs import FeatureInputs
from invp.plumbing.metrics import PERCENT
from invp.plumbing.options import option

NEEDS = "features"
GPU = False
METRICS = {"top*": PERCENT}
SEARCHED, VOTING = 32768, 4096  # training images searched at a time, and test images voted for; faiss's own blocks divide the first
DIFFERS = (
    "training images are embedded anew, without augmentation (published: rows of the memory bank, running means over augmented views)",
    "the stage's epoch (published: the epoch best on the test images)",
)


@dataclass
class Config:
    """The first k and temperature give the metric `top1`; further ones are reported beside it."""

    k: list[int] = option(
        [200, 10, 20, 100],
        "neighbours that vote; all training images if they are fewer, which metric and protocol say",
        least=1,
        filled=True,
    )
    temperature: list[float] = option([0.07], "of the votes' weights", above=0, filled=True)
    features: str = option("embedding", "embedding: the head's output; feature: the encoder's", choices=("embedding", "feature"))


def memory(config: Config, inputs: FeatureInputs) -> int:
    """Bytes: the test images, a block of training images, each with a copy; what was found, twice; faiss's buffers; votes of a block."""
    train, test = (getattr(part, config.features) for part in (inputs.train, inputs.test))
    rows, queries, width = min(SEARCHED, len(train)), len(test), train.shape[1]
    k, voting = min(max(config.k), len(train)), min(VOTING, queries)
    found, votes = queries * k * (12 + 12 + 8), voting * (4096 + 24 * k + 4 * 24 * k + 24 * len(inputs.classes))
    return 8 * width * (rows + queries) + found + votes


def unit(rows: np.ndarray | Rows) -> np.ndarray:
    """The rows divided by their lengths, in memory of their own."""
    found = np.array(rows, np.float32)
    faiss.normalize_L2(found)
    return found


def nearest(train: np.ndarray | Rows, test: np.ndarray | Rows, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k <= N training images most similar to each test image, nearest first: similarities and numbers, QxK each.

    Training images are read and searched a block at a time. Of equal similarities the higher number comes first, as faiss has it.
    """
    queries = unit(test)
    values, numbers = np.full((len(test), k), -np.inf, np.float32), np.full((len(test), k), -1)
    for part, rows in blocks(train, SEARCHED):
        found, own = faiss.knn(queries, unit(rows), min(k, len(rows)), metric=faiss.METRIC_INNER_PRODUCT)
        own += part.start
        for at, best in blocks(values, VOTING):
            both, which = np.concatenate([found[at], best], 1), np.concatenate([own[at], numbers[at]], 1)
            order = np.argsort(-both, 1, kind="stable")[:, :k]
            values[at], numbers[at] = np.take_along_axis(both, order, 1), np.take_along_axis(which, order, 1)
    return values, numbers


def answers(similarities: np.ndarray, labels: np.ndarray, truth: np.ndarray, temperature: float, num_classes: int) -> tuple:
    """The class that each test image's neighbours vote for, and the place of its own class among all by their votes: Q each."""
    winners, own = [], []
    for at, part in blocks(similarities, VOTING):
        scores = weighted_votes(part, labels[at], temperature, num_classes)
        winners.append(scores.argmax(1))
        own.append(places(scores, truth[at]))
    return np.concatenate(winners), np.concatenate(own)


def evaluate(config: Config, inputs: FeatureInputs, *, seed: int, device: str) -> dict:
    """Top-1 and top-5 in % for every k and temperature, from one exact search; of equal votes the lower class wins."""
    train, test = (getattr(part, config.features) for part in (inputs.train, inputs.test))
    used = list(dict.fromkeys(min(k, len(train)) for k in config.k))
    asked = [str(k) for k in config.k if k > len(train)]
    fewer = f"{len(train)}, not {', '.join(asked)}: there are no more training images" if asked else ""
    if fewer:
        print(f"knn: k is {fewer}", file=sys.stderr)
    similarities, numbers = nearest(train, test, max(used))
    labels, truth, num_classes = inputs.train.labels[numbers], inputs.test.labels, len(inputs.classes)
    right: dict[str, np.ndarray] = {}
    details: dict = {"classes": inputs.classes}
    for k in used:
        for temperature in config.temperature:
            winners, own = answers(similarities[:, :k], labels[:, :k], truth, temperature, num_classes)
            suffix = f"_k{k}_t{temperature:g}"
            for top in (1, 5):
                right[f"top{top}{suffix}"] = own < top
            if (k, temperature) == (used[0], config.temperature[0]):
                right |= {f"top{top}": right[f"top{top}{suffix}"] for top in (1, 5)}
                confusion = confusion_matrix(winners, truth, num_classes)
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
    metrics = {name: accuracy(own) for name, own in right.items()}
    return {
        "metrics": metrics,
        "protocol": protocol,
        "details": details,
        "answers": {name: own.tolist() for name, own in right.items()},
    }
