"""A set of permutations that are far from each other, for the jigsaw puzzle. P permutations of n things; M = n! in all."""

from itertools import chain, permutations
from math import factorial

import numpy as np
import torch
from torch import Tensor

from invp.core.selection import mixed_seed

DISTANCES = ("max_avg", "max_min")


def all_permutations(length: int) -> np.ndarray:
    """The permutations of 0 to n - 1 in the order of the alphabet, a row each: Mxn uint8."""
    flat = chain.from_iterable(permutations(range(length)))
    return np.fromiter(flat, np.uint8, length * factorial(length)).reshape(-1, length)


def distant_permutations(count: int, length: int, *, seed: int, distance: str) -> Tensor:
    """P permutations chosen one by one, each as far as possible from those before it: Pxn int64, a function of the arguments alone.

    The first is random. Each other is the one whose mean (`max_avg`) or whose least (`max_min`) Hamming distance to those chosen is the
    largest; of equal ones the first in the alphabet is taken. None is chosen twice.
    Source: Noroozi and Favaro (ECCV 2016), whose rule is `max_avg`; `max_min` is in Facebook's self-supervision benchmark (Goyal et al., ICCV 2019).
    """
    assert distance in DISTANCES and 1 <= count <= factorial(length), (distance, count)
    rows = all_permutations(length)
    columns = np.ascontiguousarray(rows.T)
    chosen = [mixed_seed(seed) % len(rows)]
    # The sum of the distances stands for their mean. It is kept for each candidate, so that a choice takes one pass over them.
    far = np.zeros(len(rows), np.int32) if distance == "max_avg" else np.full(len(rows), length + 1, np.int32)
    while len(chosen) < count:
        last = np.zeros(len(rows), np.uint8)
        for column in columns:
            last += column != column[chosen[-1]]
        far = far + last if distance == "max_avg" else np.minimum(far, last)
        far[chosen] = -1
        chosen.append(int(far.argmax()))
    return torch.from_numpy(rows[chosen].astype(np.int64))
