"""Recursive discovery of positives on a directed graph. N samples, B anchors, k neighbours, Q places."""

from typing import NamedTuple

import torch
from torch import Tensor

from invp.core.neighbours import ABSENT


class Positives(NamedTuple):
    """The discovered positives of B anchors in Q places."""

    index: Tensor  # BxQ int64; 0 in places that hold none
    mask: Tensor  # BxQ bool; False in places that hold none
    distance: Tensor  # BxQ int8: steps from the anchor, 1..l


def discover(table: Tensor, anchors: Tensor, steps: int, *, union: bool = True) -> Positives:
    """The positives of each anchor: all nodes within graph distance `steps`, without repeats and without the anchor.

    `table` (Nxk, ABSENT for none) holds each node's neighbours, `anchors` is B. With `union` False the lists are
    concatenated as in the authors' code: repeats and returns to the anchor stay and count several times.
    Source: equation 3, S_1 = N_k(i), S_{s+1} = S_s u N_k(S_s), N(i) = S_l.
    """
    levels = [table[anchors]]
    for _ in range(steps - 1):
        last = levels[-1]
        following = table[last.clamp(min=0)].masked_fill((last == ABSENT)[..., None], ABSENT)  # Bxk^s -> Bxk^sxk
        levels.append(following.flatten(1))
    index = torch.cat(levels, 1)
    widths = torch.tensor([level.shape[1] for level in levels], device=table.device)
    number = torch.arange(1, steps + 1, dtype=torch.int8, device=table.device)
    distance = torch.repeat_interleave(number, widths, output_size=index.shape[1]).expand_as(index)
    mask = index != ABSENT
    if union:
        index, order = index.sort(dim=1, stable=True)  # stable: of equals the nearest comes first
        distance = distance.gather(1, order)
        mask = (index != ABSENT) & (index != anchors[:, None])
        mask[:, 1:] &= index[:, 1:] != index[:, :-1]
    return Positives(index.masked_fill(~mask, 0), mask, distance)
