"""What the figures of embeddings share. N training images, Q test images, D dimensions, K neighbours."""

from typing import Any

import numpy as np

from invp.core.metrics import weighted_votes
from invp.data.tables import Rows
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_table
from invp.plumbing.memory import require

SEARCHED, VOTING = 131072, 256  # training and test images whose similarities are in memory at a time


def embeddings(inputs: Any, split: str) -> tuple[np.ndarray, np.ndarray]:
    """Unit embeddings NxD and labels N of a split at the last stage; UserError if labels are missing, or memory is too small."""
    labels, rows = read_table(inputs.features[split])["label"], Rows(inputs.features[split], "embedding")
    if labels.null_count:
        raise UserError(f"{inputs.features[split]} has images without a label: this figure needs labels")
    images, dimensions = rows.shape
    needed = 4 * images * dimensions + 16 * min(SEARCHED, images) * VOTING
    require(needed, f"{images:,} {split} images of {dimensions:,} numbers", "figure")
    return np.asarray(rows, np.float32), labels.to_numpy().astype(np.int64)


def weighted_answers(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, k: int, temperature: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The classes that the k nearest training images vote for (Q), with those images and their similarities (QxK, nearest first).

    Of equal similarities the lower number comes first.
    """
    import torch  # for this one alone: other figures do not wait for it

    from invp.core.neighbours import top_k

    answers, nearest, near = [], [], []
    rows = torch.from_numpy(train)
    for queries in torch.from_numpy(test).split(VOTING):
        values, numbers = top_k(queries, rows, min(k, len(rows)), block=SEARCHED)
        found, order = (part.numpy() for part in values.sort(dim=1, descending=True, stable=True))
        own = np.take_along_axis(numbers.numpy(), order, 1)
        answers.append(weighted_votes(found, labels[own], temperature, labels.max() + 1).argmax(1))
        nearest.append(own)
        near.append(found)
    return np.concatenate(answers), np.concatenate(nearest), np.concatenate(near)
