"""The loss of a batch against the bank, and its gradient, without autograd; `invp.core.reference` has the equations.

B anchors, N rows, D dimensions, M nearest rows, P hard positives, Q columns of discovered positives. The derivatives by
the similarities come from `invp.core.losses`; the bank rows weighted with them add up to the gradient by the feature.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from invp.core.losses import Exponentials, InvarianceTerms, exponentials, instance_loss, invariance_loss
from invp.core.products import add_all_rows
from invp.core.propagation import Positives
from invp.core.selection import RowRange, extreme_positives, membership, selected_similarities, weighted_rows

BACKGROUNDS = ("exact", "approximate", "official")
LEAST_SHARED = 0.025  # tau, from which on exp(-2 / tau), of the most distant rows, is a number of 32 bits


@dataclass(frozen=True)
class LossOptions:
    """The constants of a batch's loss."""

    temperature: float  # tau
    invariance_weight: float = 0.0  # lambda w(t)
    num_positives: int = 50  # P
    hardest: bool = True  # the positives of lowest similarity; False: of highest
    background: str = "exact"  # one of BACKGROUNDS: (N_M \ N) u N_h | N_M | N_M less the anchor's own term
    eps: float = 0.0  # added to both ratios inside the logarithm


class Nearest(NamedTuple):
    """The nearest rows N_M(i) of B anchors."""

    similarity: Tensor  # BxM
    index: Tensor | None  # BxM, row numbers, ascending; None: all rows in their order, M = N


class BatchLoss(NamedTuple):
    """L_ins and L_inv of each anchor (B), and the gradient of sum(L_ins + lambda w L_inv) by the features (BxD)."""

    instance: Tensor
    invariance: Tensor
    gradient: Tensor


def batch_loss(
    features: Tensor,
    bank: Tensor,
    index: Tensor,
    near: Nearest,
    positives: Positives | None,
    options: LossOptions,
    *,
    row_range: RowRange | None = None,
) -> BatchLoss:
    """L_ins + lambda w(t) L_inv of each anchor: features BxD of the images `index` (B), against the bank (NxD).

    The objectives call it once a step. If `near` is of all rows ("without hard negatives"), its similarities are
    overwritten. Without positives L_inv is 0. With `row_range`, `bank` is this rank's rows alone, and `near` must have
    row numbers. Source: equations 4 to 7.
    """
    # Anchors are taken some at a time, so that copies of `near` stay small; on a GPU launches cost more than copies.
    step = max(1, len(index) // 16, (1 << (24 if features.is_cuda else 18)) // near.similarity.shape[1])
    chunks = []
    for start in range(0, len(index), step):
        rows = slice(start, start + step)
        chunk_near = Nearest(near.similarity[rows], None if near.index is None else near.index[rows])
        chunk_positives = None if positives is None else Positives(*(value[rows] for value in positives))
        found = _derivatives(features[rows], bank, index[rows], chunk_near, chunk_positives, options, row_range)
        gradient = weighted_rows(found.by_few, bank, found.few, row_range=row_range)
        if chunk_near.index is None:
            chunk_near.similarity.copy_(found.by_near)
        else:
            gradient += weighted_rows(found.by_near, bank, chunk_near.index, row_range=row_range)
        chunks.append(BatchLoss(found.instance, found.invariance, gradient))
    loss = BatchLoss(*(torch.cat(values) for values in zip(*chunks, strict=True)))
    return loss if near.index is not None else loss._replace(gradient=add_all_rows(loss.gradient, near.similarity, bank))


class _Derivatives(NamedTuple):
    """L_ins and L_inv of each anchor (B), and the derivatives of L_ins + lambda w L_inv by similarities."""

    instance: Tensor
    invariance: Tensor
    few: Tensor  # Bx(1 + P), the rows of the anchors themselves and of their hard positives; without positives Bx1
    by_few: Tensor  # Bx(1 + P), by the similarities of these
    by_near: Tensor  # BxM, by those of the nearest rows


def _derivatives(
    features: Tensor,
    bank: Tensor,
    index: Tensor,
    near: Nearest,
    positives: Positives | None,
    options: LossOptions,
    row_range: RowRange | None,
) -> _Derivatives:
    """The losses of some anchors and their derivatives; apart, so that tables made here are given back before rows are summed."""
    own = selected_similarities(features, bank, index[:, None], row_range=row_range)[:, 0]
    shared = exponentials(near.similarity, options.temperature)
    instance = instance_loss(own, shared, options.temperature, options.eps)
    if positives is None:
        return _Derivatives(instance.loss, torch.zeros_like(own), index[:, None], instance.by_own[:, None], instance.by_near)
    similarity = selected_similarities(features, bank, positives.index, row_range=row_range)
    columns, mask = extreme_positives(similarity, positives.mask, options.num_positives, hardest=options.hardest)
    hard = similarity.gather(1, columns).masked_fill(~mask, -torch.inf)
    terms = _invariance(own, index, near, shared, positives, hard, options)
    factor = options.invariance_weight
    few = torch.cat([index[:, None], positives.index.gather(1, columns)], 1)
    by_few = torch.cat([(instance.by_own + factor * terms.by_own)[:, None], factor * terms.by_hard], 1)
    by_near = instance.by_near.add_(terms.by_near, alpha=factor)
    return _Derivatives(instance.loss, terms.loss, few, by_few, by_near)


def _invariance(
    own: Tensor, index: Tensor, near: Nearest, shared: Exponentials, positives: Positives, hard: Tensor, options: LossOptions
) -> InvarianceTerms:
    """L_inv with the background of `options`; `own` (B) and `hard` (BxP) are the similarities of own row and hard positives.

    `shared` are the exponentials of all nearest rows.
    """
    tau, eps = options.temperature, options.eps
    if options.background == "approximate":
        return invariance_loss(hard, shared, tau, with_hard=False, eps=eps)
    if options.background == "official":
        member = _member(near, index[:, None], torch.ones_like(index[:, None], dtype=torch.bool))
        rest = exponentials(near.similarity.masked_fill(member, -torch.inf), tau)
        subtract = own.masked_fill(member.any(1), -torch.inf)  # the own term is subtracted even where N_M lacks it
        return invariance_loss(hard, rest, tau, with_hard=False, subtract=subtract, eps=eps)
    member = _member(near, positives.index, positives.mask)
    if tau >= LEAST_SHARED:
        rest = Exponentials(shared.top, shared.value.masked_fill(member, 0))
    else:  # it may be so far below the largest of all that its exponentials would be 0
        rest = exponentials(near.similarity.masked_fill(member, -torch.inf), tau)
    return invariance_loss(hard, rest, tau, eps=eps)


def _member(near: Nearest, positives: Tensor, mask: Tensor) -> Tensor:
    """A mask BxM: which of the nearest rows are among the positives (row numbers and mask, BxQ)."""
    if near.index is not None:
        return membership(near.index, positives, mask)
    num_rows = near.similarity.shape[1]
    member = torch.zeros(len(near.similarity), num_rows + 1, dtype=torch.bool, device=near.similarity.device)
    return member.scatter_(1, positives.masked_fill(~mask, num_rows), True)[:, :-1]
