"""Principal components of unit variance. N rows, D dimensions, P components."""

import torch
from torch import Tensor

SMALLEST = 1e-8  # of the largest variance: components below it are roundings


def whitened(rows: Tensor, dimensions: int, *, block: int = 1 << 16) -> Tensor:
    """The first P = min(`dimensions`, D) principal components of the rows (NxD), each of variance 1: NxP float32.

    Components that have no variance are 0. `block` rows at a time are worked on in 64 bits.
    """
    mean = sum(part.double().sum(0) for part in rows.split(block)) / len(rows)
    scatter = sum((part.double() - mean).T @ (part.double() - mean) for part in rows.split(block)) / len(rows)
    variance, vectors = torch.linalg.eigh(scatter)  # ascending
    variance, vectors = variance[-dimensions:].flip(0), vectors[:, -dimensions:].flip(1)
    scale = torch.where(variance > SMALLEST * variance[0], variance.clamp(min=torch.finfo(variance.dtype).tiny).rsqrt(), 0)
    return torch.cat([((part.double() - mean) @ (vectors * scale)).float() for part in rows.split(block)])
