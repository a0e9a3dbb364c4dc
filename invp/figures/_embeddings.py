"""What the figures of embeddings share. N training images, Q test images, D dimensions, K neighbours."""

from typing import Any

import numpy as np

from invp.core.metrics import weighted_votes
from invp.data.tables import matrix
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_table


def embeddings(inputs: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Unit embeddings NxD and labels N of the training images, and QxD and Q of the test images, at the last stage."""
    found: list[np.ndarray] = []
    for split in ("train", "test"):
        table = read_table(inputs.features[split])
        if table["label"].null_count:
            raise UserError(f"{inputs.features[split]} has images without a label: this figure needs labels")
        found += [matrix(table, "embedding").astype(np.float32), table["label"].to_numpy().astype(np.int64)]
    return found[0], found[1], found[2], found[3]


def weighted_answers(
    train: np.ndarray, labels: np.ndarray, test: np.ndarray, k: int, temperature: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The classes that the k nearest training images vote for (Q), with those images and their similarities (QxK, nearest first)."""
    answers, nearest, near = [], [], []
    for rows in np.array_split(test, max(1, len(test) * len(train) // 50_000_000)):
        similarities = rows @ train.T
        own = np.argsort(-similarities, 1, kind="stable")[:, :k]
        found = np.take_along_axis(similarities, own, 1)
        answers.append(weighted_votes(found, labels[own], temperature, labels.max() + 1).argmax(1))
        nearest.append(own)
        near.append(found)
    return np.concatenate(answers), np.concatenate(nearest), np.concatenate(near)
