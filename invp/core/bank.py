"""The memory bank: one row of D numbers for each of N samples, without gradient. B is the batch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def initial_rows(num_samples: int, dim: int, *, seed: int) -> Tensor:
    """The first rows of a bank, NxD, uniform in (-s, s) with s = sqrt(3 / D), so that their expected squared norm is 1.

    They are drawn from a generator of their own and are, as published, not normalised.
    """
    bound = math.sqrt(3 / dim)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_samples, dim, generator=generator).mul_(2 * bound).sub_(bound)


def last_occurrence(index: Tensor) -> Tensor:
    """For each of B positions, the last position that holds the same index (B).

    Writing `values[last_occurrence(index)]` to the rows `index` gives the same result on every device and every run,
    whatever is repeated.
    """
    same = index[:, None] == index[None, :]
    return (same * torch.arange(len(index), device=index.device)).amax(1) if len(index) else index


def update_rows(bank: Tensor, index: Tensor, features: Tensor, momentum: float) -> None:
    """Moves the rows `index` (B) of the bank (NxD) towards the features (BxD), in place, and normalises them.

    b_i <- normalise(m b_i + (1 - m) v_i). A repeated index takes its last feature.
    """
    rows = F.normalize(momentum * bank[index] + (1 - momentum) * features.to(bank.dtype), dim=1)
    bank[index] = rows[last_occurrence(index)]
