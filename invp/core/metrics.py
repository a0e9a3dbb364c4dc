"""Measures of classification and of embeddings. Q test images, C classes, N images, D dimensions."""

import numpy as np
from numpy.typing import NDArray


def topk_accuracy(scores: NDArray, labels: NDArray, k: int) -> float:
    """The share in % of rows of `scores` (QxC) whose label (Q) is among the k highest; of equal scores the lower class comes first.

    With k of at least C it is 100.
    """
    own = scores[np.arange(len(labels)), labels][:, None]
    lower = np.arange(scores.shape[1])[None] < labels[:, None]
    ahead = (scores > own).sum(1) + ((scores == own) & lower).sum(1)
    return 100 * float((ahead < k).mean())


def confusion_matrix(predicted: NDArray, labels: NDArray, num_classes: int) -> NDArray:
    """Counts, CxC: a row is a true class, a column a predicted one."""
    return np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy_by_class(confusion: NDArray) -> list[float | None]:
    """The share in % of each class that is right; None for a class without images."""
    counts = confusion.sum(1)
    return [100 * float(right / n) if n else None for right, n in zip(confusion.diagonal(), counts, strict=True)]


def mean_per_class(confusion: NDArray) -> float:
    """The mean in % over the classes that have images."""
    return float(np.mean([value for value in accuracy_by_class(confusion) if value is not None]))


def average_precision(scores: NDArray, positive: NDArray, *, points: int = 0) -> float:
    """Average precision in % of scores (Q) for positives (Q, bool); NaN without a positive. Equal scores count in the order given.

    The area under the monotone envelope of precision over recall (VOC since 2010), or with `points` = 11 the mean of the envelope
    at the recalls 0, 0.1 ... 1 (VOC2007).
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    if not len(hits) or hits[-1] == 0:
        return float("nan")
    recall, precision = hits / hits[-1], hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if points:
        # Recalls are ratios of counts: compare counts, so that 3 of 10 reaches 0.3.
        reached = [hits * (points - 1) >= step * hits[-1] for step in range(points)]
        return 100 * float(np.mean([envelope[at].max() for at in reached]))
    return 100 * float((np.diff(recall, prepend=0.0) * envelope).sum())


def nearest_by_class(rows: NDArray, labels: NDArray, anchors: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """Similarities of each anchor (numbers of unit rows NxD) to its `count` nearest of the same class and of all others, anchors x count.

    Anchors without so many images on either side are left out.
    """
    same, other = [], []
    for part in np.array_split(anchors, max(1, len(anchors) // 500)):
        similarities = rows[part] @ rows.T
        own = labels[part][:, None] == labels[None]
        itself = np.zeros_like(own)
        itself[np.arange(len(part)), part] = True
        enough = ((own & ~itself).sum(1) >= count) & ((~own).sum(1) >= count)
        for found, allowed in ((same, own & ~itself), (other, ~own)):
            values = np.where(allowed, similarities, -np.inf)[enough]
            found.append(-np.sort(-values, 1)[:, :count])
    return np.concatenate(same), np.concatenate(other)


def overlap(first: NDArray, second: NDArray, bins: int = 100) -> float:
    """The area that the histograms of two sets of similarities share: 0 apart, 1 equal. `bins` divide [-1, 1]."""
    edges = np.linspace(-1, 1, bins + 1)
    shares = [np.histogram(np.clip(values, -1, 1), edges)[0] / values.size for values in (first, second)]
    return float(np.minimum(*shares).sum())


def weighted_votes(similarities: NDArray, labels: NDArray, temperature: float, num_classes: int) -> NDArray:
    """The summed weights of each class, Q x num_classes, from similarities and labels of the neighbours (QxK).

    Weights are taken relative to the nearest, which changes no order of classes and cannot overflow.
    """
    weights = np.exp((similarities - similarities[:, :1]) / temperature).astype(np.float64)
    rows = np.arange(len(labels))[:, None]
    flat = (rows * num_classes + labels).ravel()
    return np.bincount(flat, weights.ravel(), len(labels) * num_classes).reshape(len(labels), num_classes)
