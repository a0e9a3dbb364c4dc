"""Measures of classification. Q test images, C classes."""

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
