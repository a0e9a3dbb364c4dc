"""The memory bank: one feature of D dimensions for each of N samples, without gradient. B is the batch."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def initial_rows(num_samples: int, dim: int, *, seed: int) -> Tensor:
    """The rows of a bank before training: NxD, uniform in (-s, s) with s = sqrt(3 / D): their expected squared norm is 1.

    They are not normalised, as in the authors' code. They depend on the seed, not on the global random state.
    """
    bound = math.sqrt(3 / dim)
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num_samples, dim, generator=generator).mul_(2 * bound).sub_(bound)


def last_occurrence(index: Tensor) -> Tensor:
    """For each position in `index` (B), the last position that holds the same row number: B.

    `table[index] = values[last_occurrence(index)]` has the same result on every device and in every run, whichever of
    equal row numbers is written last.
    """
    same = index[:, None] == index[None, :]
    return (same * torch.arange(len(index), device=index.device)).amax(1) if len(index) else index


def update_rows(bank: Tensor, index: Tensor, features: Tensor, momentum: float) -> None:
    """Moves the rows `index` (B) of the bank (NxD) towards the features (BxD) and normalises them, in place.

    b_i <- normalise(m b_i + (1 - m) v_i), with m the momentum. A row that `index` names twice takes its last feature.
    """
    rows = F.normalize(momentum * bank[index] + (1 - momentum) * features.to(bank.dtype), dim=1)
    bank[index] = rows[last_occurrence(index)]
