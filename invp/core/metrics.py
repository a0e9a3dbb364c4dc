"""Measures of classification and of embeddings. Q test images, C classes, N images, D dimensions."""

import numpy as np
from numpy.typing import NDArray


def places(scores: NDArray, labels: NDArray) -> NDArray:
    """How many classes come before each test image's label (Q) by score (QxC): Q. Of equal scores the lower class number comes first."""
    own = scores[np.arange(len(labels)), labels][:, None]
    lower = np.arange(scores.shape[1])[None] < labels[:, None]
    return (scores > own).sum(1) + ((scores == own) & lower).sum(1)


def topk_right(scores: NDArray, labels: NDArray, k: int) -> NDArray:
    """Whether each test image's label (Q) is among the k classes of highest score (QxC): Q, bool.

    Of equal scores the lower class number comes first. Where k is C or more, all are right.
    """
    return places(scores, labels) < k


def topk_accuracy(scores: NDArray, labels: NDArray, k: int) -> float:
    """The share of test images in % that `topk_right` finds right."""
    return accuracy(topk_right(scores, labels, k))


def accuracy(right: NDArray) -> float:
    """The share in % of test images that are right (Q, bool)."""
    return 100 * float(right.mean())


def confusion_matrix(predicted: NDArray, labels: NDArray, num_classes: int) -> NDArray:
    """Counts of images by true class (row) and predicted class (column): CxC, from the class numbers of each (Q)."""
    return np.bincount(labels * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy_by_class(confusion: NDArray) -> list[float | None]:
    """The share in % of each class that was predicted right, from a confusion matrix; None for an empty class."""
    counts = confusion.sum(1)
    return [100 * float(right / n) if n else None for right, n in zip(confusion.diagonal(), counts, strict=True)]


def intersection_over_union(confusion: NDArray) -> NDArray:
    """Of each class (C) in %: right answers over answers and truths of the class together, counted once; NaN where there are neither."""
    right = confusion.diagonal()
    union = confusion.sum(0) + confusion.sum(1) - right
    return np.where(union > 0, 100 * right / np.maximum(union, 1), np.nan)


def mean_per_class(confusion: NDArray) -> float:
    """The mean accuracy in % over the classes that have images, from a confusion matrix."""
    return float(np.mean([value for value in accuracy_by_class(confusion) if value is not None]))


def average_precision(scores: NDArray, positive: NDArray, *, points: int = 0) -> float:
    """Average precision in % of one class, from the scores (Q) and the true answers (Q, bool); NaN if none is true.

    It is the area under the monotone envelope of precision over recall (VOC since 2010) or, with `points` = 11, the
    mean of the envelope at the recalls 0, 0.1 ... 1 (VOC2007). Images of equal score are ranked in the order given.
    """
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    if not len(hits) or hits[-1] == 0:
        return float("nan")
    recall, precision = hits / hits[-1], hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if points:
        # Counts are compared, not their ratios, so that 3 hits of 10 reach a recall of 0.3.
        reached = [hits * (points - 1) >= step * hits[-1] for step in range(points)]
        return 100 * float(np.mean([envelope[at].max() for at in reached]))
    return 100 * float((np.diff(recall, prepend=0.0) * envelope).sum())


def nearest_by_class(rows: NDArray, labels: NDArray, anchors: NDArray, count: int) -> tuple[NDArray, NDArray]:
    """Similarities of A anchors to the `count` nearest images of the same class, and of all other classes: A x count each.

    `rows` are unit vectors (NxD), `labels` N, `anchors` row numbers (A). An anchor is left out if either kind has fewer
    than `count` images. The nearest come first.
    """
    same, other = [], []
    for chunk in np.array_split(anchors, max(1, len(anchors) // 500)):
        similarities = rows[chunk] @ rows.T
        same_class = labels[chunk][:, None] == labels[None]
        itself = np.zeros_like(same_class)
        itself[np.arange(len(chunk)), chunk] = True
        enough = ((same_class & ~itself).sum(1) >= count) & ((~same_class).sum(1) >= count)
        for results, allowed in ((same, same_class & ~itself), (other, ~same_class)):
            values = np.where(allowed, similarities, -np.inf)[enough]
            results.append(-np.sort(-values, 1)[:, :count])
    return np.concatenate(same), np.concatenate(other)


def overlap(first: NDArray, second: NDArray, bins: int = 100) -> float:
    """The area that the normalised histograms of two sets of similarities share, from 0 to 1. `bins` divide [-1, 1]."""
    edges = np.linspace(-1, 1, bins + 1)
    shares = [np.histogram(np.clip(values, -1, 1), edges)[0] / values.size for values in (first, second)]
    return float(np.minimum(*shares).sum())


def weighted_votes(similarities: NDArray, labels: NDArray, temperature: float, num_classes: int) -> NDArray:
    """The votes for each class by weighted kNN, QxC: the sum of exp(similarity/tau) over the neighbours of that class.

    Similarities and labels of the neighbours are QxK, the nearest first. Weights are relative to that of the nearest:
    this keeps the order of classes and cannot overflow.
    """
    weights = np.exp((similarities - similarities[:, :1]) / temperature).astype(np.float64)
    rows = np.arange(len(labels))[:, None]
    flat = (rows * num_classes + labels).ravel()
    return np.bincount(flat, weights.ravel(), len(labels) * num_classes).reshape(len(labels), num_classes)
