"""Invariance Propagation (Wang et al., NeurIPS 2020, arXiv 2010.11694): instance loss and discovered positives.

`invp.core.reference` states the equations. N samples, B batch, D dimensions, k neighbours, M nearest rows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.bank import initial_rows, last_occurrence
from invp.core.batch_loss import BACKGROUNDS, BatchLoss, LossOptions, Nearest, batch_loss
from invp.core.losses import RAMPS, attach_gradient, ramp
from invp.core.neighbours import ABSENT, largest, merge_topk, nearest_first, search_block, similarities, top_k
from invp.core.propagation import Positives, discover
from invp.core.selection import extreme_positives, selected_similarities
from invp.models.heads import embedding_width
from invp.objectives._options import require
from invp.objectives._sharded_bank import BankRows
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

BANKS = ("replicated", "sharded")
SEARCHES = ("fp32", "fp16")
GRAPHS = ("lazy", "epoch", "stage")
POSITIVES = ("hard", "easy", "knn")


@dataclass
class Config:
    """Options of InvP; the defaults are the paper's for ImageNet with a linear head."""

    k: int = option(4, "neighbours of each node of the graph, fewer than there are images", least=1)
    steps: int = option(3, "l, the graph distance within which positives are discovered", least=1)
    num_positives: int = option(50, "P, the hard positives of an anchor, fewer than there are images", least=1)
    num_negatives: int = option(4096, "M, the nearest rows in the denominators, at most N; 0: all N", least=0)
    hard_negatives: bool = option(True, "false: the denominators run over all N")
    weight: float = option(0.6, "lambda, the weight of L_inv", least=0)
    ramp: str = option("binary", "w(t), the weight of L_inv over epochs", choices=RAMPS)
    ramp_epoch: int = option(30, "T, the epoch after which a binary ramp is 1", least=0)
    momentum: float = option(0.5, "m of the bank", least=0, below=1)
    temperature: float = option(0.07, "tau; the paper has 0.2 with an MLP head", above=0)
    graph: str = option(
        "lazy", "lazy: an image's neighbours are found when it is visited; epoch, stage: all at its start", choices=GRAPHS
    )
    union: bool = option(True, "false: a positive counts as often as walks end in it")
    background: str = option(
        "exact", "exact: (N_M \\ N) u N_h; approximate: N_M; official: N_M less the anchor's own term", choices=BACKGROUNDS
    )
    positives: str = option(
        "hard",
        "hard: the least similar of the discovered; easy: the most similar of them; knn: the nearest rows",
        choices=POSITIVES,
    )
    num_neighbours: int = option(50, "K of positives: knn, fewer than there are images", least=1)
    eps: float = option(0.0, "added to both ratios inside the logarithm", least=0)
    official_compat: bool = option(False, "the authors' code: sets graph, union, background, eps; the table starts at 0")
    bank: str = option("replicated", "replicated: every process holds all rows; sharded: N / processes, for large N", choices=BANKS)
    search: str = option("fp32", "fp16: candidates are found with 16-bit copies and scored again in 32 bits", choices=SEARCHES)


MEMORY = "bank"  # the buffer with a row an image, of which a neighbour graph can be made


def in_force(config: Config) -> Config:
    """The options that hold: `official_compat` sets several."""
    return replace(config, graph="lazy", union=False, background="official", eps=1e-7) if config.official_compat else config


def positives_of(config: Config, table: Tensor, anchors: Tensor, nearest: Callable[[int], Tensor]) -> Positives:
    """The positives of the anchors (B row numbers) by the rule of the options in force, in training and for looking.

    They are found by walks on the graph `table` (Nxk), or are the nearest rows: `nearest(count)` gives them, Bxcount, ABSENT where
    there is none.
    """
    if config.positives != "knn":
        return discover(table, anchors, config.steps, union=config.union)
    near = nearest(config.num_neighbours)
    mask = near != ABSENT
    return Positives(near.masked_fill(~mask, 0), mask, torch.ones_like(near, dtype=torch.int8))


def steady(config: Config, epoch: int) -> tuple:
    """What of an epoch the operations of its steps depend on: w(t)."""
    return (ramp(config.ramp, epoch, config.ramp_epoch),)


def num_chosen(config: Config) -> int:
    """How many of an anchor's positives its loss takes, at most."""
    return config.num_neighbours if config.positives == "knn" else config.num_positives


def neighbours_needed(config: Config) -> int:
    """How many neighbours of each node of a finished graph `discovered` needs."""
    return 0 if config.positives == "knn" else config.k


def discovered(config: Config, rows: Tensor, neighbours: Tensor, anchors: Tensor) -> dict[str, Tensor]:
    """The positives of the anchors (B) on a finished graph, as the training would find them: a row for each pair.

    `rows` (NxD) are unit rows and `neighbours` (NxK, K at least k) their nearest. `chosen` are those that the loss takes. Called by
    the graph step.
    """
    config = in_force(config)
    features = rows[anchors]

    def nearest(count: int) -> Tensor:
        candidates = top_k(features, rows, min(count + 1, len(rows)))
        return nearest_first(*candidates, count, exclude=anchors)[1]

    positives = positives_of(config, neighbours[:, : config.k], anchors, nearest)
    similarity = selected_similarities(features, rows, positives.index)
    columns, taken = extreme_positives(similarity, positives.mask, num_chosen(config), hardest=config.positives != "easy")
    chosen = torch.zeros_like(positives.mask).scatter_(1, columns, taken)
    anchor = anchors[:, None].expand_as(positives.index)
    values = {
        "anchor": anchor,
        "positive": positives.index,
        "distance": positives.distance,
        "similarity": similarity,
        "chosen": chosen,
    }
    return {name: value[positives.mask] for name, value in values.items()}


class Objective(nn.Module):
    """InvP with its memory: the `bank` (NxD) and the graph, a `table` of neighbours (Nxk, ABSENT where not known yet)."""

    views = 1
    bank: Tensor
    table: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        config = in_force(config)
        self.config, self.encoder, self.head = config, encoder, head
        _check_counts(config, num_samples)
        all_rows = not config.hard_negatives or config.num_negatives == 0
        self.num_near = num_samples if all_rows else config.num_negatives
        if config.background == "official" and self.num_near < 2:
            raise UserError("objective: num_negatives must be at least 2 with the official background")
        self.stages: Sequence[int] = ()
        self.register_buffer("bank", initial_rows(num_samples, embedding_width(encoder, head), seed=seed))
        # Differs from the paper: the authors' table starts at zeros, so that sample 0 is everyone's neighbour at first.
        start = 0 if config.official_compat else ABSENT
        self.register_buffer("table", torch.full((num_samples, config.k), start, dtype=torch.long))
        self.bank_rows = BankRows(num_samples, config.bank)
        self.bank_rows.shard(self)
        # Neither is state: the workspace of the search, and the bank in 16 bits.
        self._buffer: Tensor | None = None
        self._half: Tensor | None = None

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Makes the graph anew from the whole bank if `graph` is epoch, or if it is stage and a stage begins.

        Stages begin at epoch 1 and after each epoch in `stages`, which the training loop sets.
        """
        first_of_stage = epoch == 1 or epoch - 1 in self.stages
        if self.config.graph == "epoch" or (self.config.graph == "stage" and first_of_stage):
            self.table.copy_(self.bank_rows.knn_graph(self.memory(), self.config.k))

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean of L_ins + lambda w(t) L_inv over the batch of one view (equation 7), and what `end_step` writes."""
        feature = F.normalize(self.head(self.encoder(views[0])).to(self.bank.dtype), dim=1)
        factor = self.config.weight * ramp(self.config.ramp, epoch, self.config.ramp_epoch)
        with torch.no_grad():
            anchors, numbers = self.bank_rows.all_anchors(feature.detach(), index)
            losses, neighbours, metrics = self._loss_and_neighbours(anchors, numbers, factor)
            instance, invariance, gradient, neighbours = self.bank_rows.own_anchors(*losses, neighbours)
            instance, invariance, gradient = instance.mean(), invariance.mean(), gradient / len(index)
            loss = instance + factor * invariance
        metrics |= {"loss_instance": instance, "loss_invariance": invariance}
        memory = {"feature": feature.detach(), "neighbours": neighbours}
        return {"loss": attach_gradient(feature, loss, gradient), "memory": memory, "metrics": metrics}

    @torch.no_grad()
    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Updates the batch's rows of the bank and, with the lazy graph, replaces those of the table."""
        rows = self.bank_rows.update(self.bank, index, memory["feature"], self.config.momentum)
        if self._half is not None:
            self._half[rows] = self.bank[rows].half()
        if self.config.graph == "lazy":
            self.table[index] = memory["neighbours"][last_occurrence(index)]

    def memory(self) -> Tensor:
        """The bank, NxD, normalised; this rank's rows alone if it is sharded."""
        return F.normalize(self.bank, dim=1)

    def _loss_and_neighbours(self, feature: Tensor, index: Tensor, factor: float) -> tuple[BatchLoss, Tensor, dict]:
        """Loss and gradient of each anchor, its new row of the table (Bxk), and metrics.

        `feature` is BxD, `index` the images' numbers (B), `factor` is lambda w(t).
        """
        near, candidates = self._search(feature)
        neighbours = nearest_first(*candidates, self.config.k, exclude=index)[1]
        positives = None
        if self.config.weight > 0:
            positives = positives_of(self.config, self.table, index, lambda n: nearest_first(*candidates, n, exclude=index)[1])
        options = LossOptions(
            temperature=self.config.temperature,
            invariance_weight=factor,
            num_positives=num_chosen(self.config),
            hardest=self.config.positives != "easy",
            background=self.config.background,
            eps=self.config.eps,
        )
        losses = batch_loss(feature, self.bank, index, near, positives, options, row_range=self.bank_rows.row_range)
        metrics = {
            "uniform_loss": feature.new_full((), math.log(self.num_near)),
            "num_positives": (positives.mask.sum() if positives else feature.new_zeros(())) / len(index),
            "feature_std": feature.std(0, correction=0).mean(),
        }
        return losses, neighbours, metrics

    def _search(self, feature: Tensor) -> tuple[Nearest, tuple[Tensor, Tensor]]:
        """The M nearest rows of each feature (BxD), and candidates for its neighbours: similarities and row numbers."""
        num_neighbours = self.config.k if self.config.positives != "knn" else max(self.config.k, self.config.num_neighbours)
        num_candidates = num_neighbours + 1  # the anchor's own row may be among them
        num_rows = self.bank_rows.num_samples
        block = search_block(feature, len(self.bank), whole=self.num_near == num_rows)
        if self.num_near == num_rows and self.bank_rows.row_range is None:
            near = similarities(feature, self.bank, self._workspace(feature, block))
            return Nearest(near, None), largest(near, num_candidates)
        count = min(max(self.num_near, num_candidates), num_rows)
        if self.config.search == "fp16":
            candidates = self._search_in_16_bits(feature, count, block)
        else:
            buffer = self._workspace(feature, block)
            candidates = self.bank_rows.top_k(feature, self.bank, count, block=block, buffer=buffer)
        near = candidates if count == self.num_near else merge_topk(*candidates, self.num_near)
        return Nearest(*near), candidates

    def _search_in_16_bits(self, feature: Tensor, count: int, block: int) -> tuple[Tensor, Tensor]:
        """The `count` nearest rows: an eighth more are searched with 16-bit copies and scored again in 32 bits."""
        if self._half is None or self._half.shape != self.bank.shape or self._half.device != self.bank.device:
            self._half = self.bank.half()
        half = feature.half()
        more = min(count + count // 8 + 32, self.bank_rows.num_samples)
        index = self.bank_rows.top_k(half, self._half, more, block=block, buffer=self._workspace(half, block))[1]
        similarity = selected_similarities(feature, self.bank, index, row_range=self.bank_rows.row_range)
        return merge_topk(similarity, index, count)

    def _workspace(self, feature: Tensor, width: int) -> Tensor:
        """Flat memory for the similarities of B features to `width` rows, kept between steps."""
        old, size = self._buffer, len(feature) * width
        if old is None or old.numel() < size or old.device != feature.device or old.dtype != feature.dtype:
            self._buffer = feature.new_empty(size)
        return self._buffer


def _check_counts(config: Config, num_samples: int) -> None:
    """UserError for a count in use that so few images do not have."""
    others = f"at most {num_samples - 1}, the other images"
    if config.weight and config.positives == "knn":
        require(config.num_neighbours < num_samples, config, "num_neighbours", others)
    elif config.weight:
        require(config.num_positives < num_samples, config, "num_positives", others)
    require(config.k < num_samples, config, "k", others)
    if config.hard_negatives:
        words = f"at most {num_samples}, the number of images, or 0 for all of them"
        require(config.num_negatives <= num_samples, config, "num_negatives", words)
