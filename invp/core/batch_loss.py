"""Loss and gradient of a batch against the bank. B anchors, N rows, D dimensions, M nearest rows, P hard positives.

Nothing is recorded for autograd: the derivatives of `invp.core.losses` weigh the rows of the bank, and that
sum is the gradient by the feature.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from invp.core.losses import InvarianceTerms, instance_loss, invariance_loss
from invp.core.propagation import Positives
from invp.core.selection import Part, extreme_positives, membership, selected_similarities, weighted_rows

BACKGROUNDS = ("exact", "approximate", "official")


@dataclass(frozen=True)
class Weighing:
    """How a batch's loss is made: tau, lambda w(t), P, which positives, which background, eps in both logarithms."""

    temperature: float
    invariance: float = 0.0
    num_positives: int = 50
    hardest: bool = True
    background: str = "exact"
    eps: float = 0.0


class BatchLoss(NamedTuple):
    """L_ins and L_inv of each anchor (B), and the gradient of sum(L_ins + lambda w L_inv) by the features (BxD)."""

    instance: Tensor
    invariance: Tensor
    gradient: Tensor


def batch_loss(
    features: Tensor,
    bank: Tensor,
    index: Tensor,
    near: Tensor,
    near_index: Tensor | None,
    positives: Positives | None,
    weighing: Weighing,
    *,
    part: Part | None = None,
    chunk: int = 1 << 17,
) -> BatchLoss:
    """L_ins + lambda w(t) L_inv of each anchor (features BxD, numbers `index` B) against the bank (NxD).

    `near` are the similarities of N_M(i) (BxM) and `near_index` its row numbers, ascending; with None, `near` is BxN,
    every row is in the sums ("without hard negatives"), and it is overwritten. Without positives, L_inv is 0.
    With `part`, `bank` holds some of the rows alone, and `near_index` must be given.
    About `chunk` numbers of `near`, but no less than a sixteenth, are worked on at a time, so that copies stay small.
    Source: equations 4 to 7; dL_ins/dv = (1/tau) (sum_n p_n b_n - b_i), and L_inv likewise.
    """
    step = max(1, len(index) // 16, chunk // near.shape[1])
    parts = []
    for start in range(0, len(index), step):
        rows = slice(start, start + step)
        places = None if near_index is None else near_index[rows]
        some = None if positives is None else Positives(*(value[rows] for value in positives))
        parts.append(_chunk_loss(features[rows], bank, index[rows], near[rows], places, some, weighing, part))
    loss = BatchLoss(*(torch.cat(column) for column in zip(*parts, strict=True)))
    return loss if near_index is not None else loss._replace(gradient=loss.gradient.addmm_(near, bank))


def _chunk_loss(
    features: Tensor,
    bank: Tensor,
    index: Tensor,
    near: Tensor,
    near_index: Tensor | None,
    positives: Positives | None,
    weighing: Weighing,
    part: Part | None,
) -> BatchLoss:
    """`batch_loss` of some anchors; with all rows, `near` becomes their weights, whose sum the gradient still lacks."""
    own = selected_similarities(features, bank, index[:, None], part=part)[:, 0]
    terms = instance_loss(own, near, weighing.temperature, weighing.eps)
    invariance, by_own, by_near = torch.zeros_like(own), terms.by_own, terms.by_near
    lists, weights = [index[:, None]], [by_own[:, None]]
    if positives is not None:
        similarity = selected_similarities(features, bank, positives.index, part=part)
        columns, mask = extreme_positives(similarity, positives.mask, weighing.num_positives, hardest=weighing.hardest)
        hard = similarity.gather(1, columns)
        second = _invariance(own, index, near, near_index, positives, hard, mask, weighing)
        invariance, factor = second.loss, weighing.invariance
        by_near.add_(second.by_near, alpha=factor)
        weights = [(by_own + factor * second.by_own)[:, None], factor * second.by_hard]
        lists.append(positives.index.gather(1, columns))
    if near_index is None:
        near.copy_(by_near)
    else:
        lists, weights = [*lists, near_index], [*weights, by_near]
    return BatchLoss(terms.loss, invariance, weighted_rows(torch.cat(weights, 1), bank, torch.cat(lists, 1), part=part))


def _invariance(
    own: Tensor,
    index: Tensor,
    near: Tensor,
    near_index: Tensor | None,
    positives: Positives,
    hard: Tensor,
    hard_mask: Tensor,
    weighing: Weighing,
) -> InvarianceTerms:
    """L_inv against the background that is asked for."""
    mask, subtract = None, None
    if weighing.background == "exact":
        mask = ~_member(near, near_index, positives.index, positives.mask)
    elif weighing.background == "official":
        mask = ~_member(near, near_index, index[:, None], torch.ones_like(index[:, None], dtype=torch.bool))
        subtract = own.masked_fill(~mask.all(1), -torch.inf)  # its term is taken off even where it is not among them
    return invariance_loss(
        hard,
        hard_mask,
        near,
        mask,
        weighing.temperature,
        with_hard=weighing.background == "exact",
        subtract=subtract,
        eps=weighing.eps,
    )


def _member(near: Tensor, places: Tensor | None, positives: Tensor, mask: Tensor) -> Tensor:
    if places is not None:
        return membership(places, positives, mask)
    member = torch.zeros(near.shape[0], near.shape[1] + 1, dtype=torch.bool, device=near.device)
    return member.scatter_(1, positives.masked_fill(~mask, near.shape[1]), True)[:, :-1]
