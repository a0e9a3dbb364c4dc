"""Discovery of positives by walks on the directed graph. N samples, B anchors, k neighbours, l steps.

A table of positives has Q = k + k^2 + ... + k^l columns: one for each walk of at most l steps.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from invp.core.neighbours import ABSENT


class Positives(NamedTuple):
    """The discovered positives of B anchors, a row of Q columns for each. Where `mask` is False, there is none."""

    index: Tensor  # BxQ int64, row numbers; 0 where there is none
    mask: Tensor  # BxQ bool
    distance: Tensor  # BxQ int8: steps from the anchor, 1..l


def discover(table: Tensor, anchors: Tensor, steps: int, *, union: bool = True) -> Positives:
    """The positives of each anchor: all nodes that `steps` steps or fewer lead to, once each and without the anchor.

    `table` (Nxk) holds the neighbours of each node, ABSENT where there is none; `anchors` (B) are row numbers. With
    `union` False every walk counts, as in the authors' code: a node comes as often as walks end in it, the anchor too.
    Source: equation 3, S_1 = N_k(i), S_{s+1} = S_s u N_k(S_s), N(i) = S_l.
    """
    levels = [table[anchors]]
    for _ in range(steps - 1):
        last = levels[-1]
        following = table[last.clamp(min=0)].masked_fill((last == ABSENT)[..., None], ABSENT)  # Bxk^s -> Bxk^sxk
        levels.append(following.flatten(1))
    index = torch.cat(levels, 1)
    distance = torch.cat([level.new_full(level.shape, s, dtype=torch.int8) for s, level in enumerate(levels, 1)], 1)
    mask = index != ABSENT
    if union:
        index, order = index.sort(dim=1, stable=True)  # stable: of equal nodes the one at the shortest distance comes first
        distance = distance.gather(1, order)
        mask = (index != ABSENT) & (index != anchors[:, None])
        mask[:, 1:] &= index[:, 1:] != index[:, :-1]
    return Positives(index.masked_fill(~mask, 0), mask, distance)
