"""Invariance Propagation (Wang et al., NeurIPS 2020, arXiv 2010.11694): instance loss and discovered positives.

N samples, B batch, D dimensions, k neighbours, M nearest rows.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.bank import initial_rows, last_occurrence
from invp.core.batch_loss import BACKGROUNDS, BatchLoss, Weighing, batch_loss
from invp.core.losses import RAMPS, attach_gradient, ramp
from invp.core.neighbours import ABSENT, largest, merge_topk, nearest_first, similarities, top_k
from invp.core.propagation import Positives, discover
from invp.core.selection import extreme_positives, selected_similarities
from invp.objectives._options import require
from invp.objectives._sharded_bank import BankRows
from invp.plumbing.errors import UserError

BANKS = ("replicated", "sharded")
SEARCHES = ("fp32", "fp16")
GRAPHS = ("lazy", "epoch", "stage")
POSITIVES = ("hard", "easy", "knn")


@dataclass
class Config:
    """Options of InvP; the defaults are the paper's for ImageNet with a linear head."""

    k: int = 4  # neighbours of each node of the graph
    steps: int = 3  # l, the graph distance within which positives are discovered
    num_positives: int = 50  # P, the hard positives of an anchor
    num_negatives: int = 4096  # M, the nearest rows in the denominators; 0 for all N
    hard_negatives: bool = True  # False: the denominators run over all N
    weight: float = 0.6  # lambda
    ramp: str = "binary"  # w(t): binary | gaussian | constant
    ramp_epoch: int = 30  # T
    momentum: float = 0.5  # m of the bank
    temperature: float = 0.07  # tau; the paper has 0.2 with an MLP head
    graph: str = "lazy"  # lazy: a row when its image is visited | epoch, stage: exact, of the bank at its start
    union: bool = True  # False: neighbours' lists are concatenated, repeats count several times
    background: str = "exact"  # exact: (N_M \\ N) u N_h | approximate: N_M | official: N_M less the anchor's own term
    positives: str = "hard"  # hard: least similar of the discovered | easy: most similar of them | knn: nearest rows
    num_neighbours: int = 50  # K of positives: knn
    eps: float = 0.0  # added to both ratios inside the logarithm
    official_compat: bool = False  # the authors' code: sets graph, union, background, eps; the table starts at 0
    bank: str = "replicated"  # replicated: every process holds all rows | sharded: N / processes, for large N
    search: str = "fp32"  # fp16: the search multiplies 16-bit copies, and what it finds is scored again in 32

    def __post_init__(self) -> None:
        for key in ("k", "steps", "num_positives", "num_neighbours"):
            require(getattr(self, key) >= 1, self, key, "at least 1")
        for key in ("num_negatives", "weight", "ramp_epoch", "eps"):
            require(getattr(self, key) >= 0, self, key, "at least 0")
        require(0 <= self.momentum < 1, self, "momentum", "at least 0 and below 1")
        require(self.temperature > 0, self, "temperature", "above 0")
        for key, valid in (("ramp", RAMPS), ("graph", GRAPHS), ("background", BACKGROUNDS), ("positives", POSITIVES),
                           ("bank", BANKS), ("search", SEARCHES)):  # fmt: skip
            require(getattr(self, key) in valid, self, key, "one of " + ", ".join(valid))


class Objective(nn.Module):
    """InvP with its memory: `bank` (NxD) and the graph's `table` (Nxk, ABSENT where a row is not known yet)."""

    views = 1
    bank: Tensor
    table: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        if config.official_compat:
            config = replace(config, graph="lazy", union=False, background="official", eps=1e-7)
        self.config, self.encoder, self.head = config, encoder, head
        all_rows = not config.hard_negatives or config.num_negatives == 0
        self.num_near = num_samples if all_rows else min(config.num_negatives, num_samples)
        if config.background == "official" and self.num_near < 2:
            raise UserError("objective: num_negatives must be at least 2 with the official background")
        self.stages: Sequence[int] = ()
        self.register_buffer("bank", initial_rows(num_samples, _width(encoder, head), seed=seed))
        # Differs from the paper: the authors' table starts at zeros, so that sample 0 is everyone's neighbour at first.
        start = 0 if config.official_compat else ABSENT
        self.register_buffer("table", torch.full((num_samples, config.k), start, dtype=torch.long))
        self.rows = BankRows(num_samples, config.bank)
        self.rows.cut(self)
        self._buffer: Tensor | None = None
        self._half: Tensor | None = None  # the bank in 16 bits; it is no state

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Takes the graph from the exact snapshot of the bank where `graph` is epoch, or stage and one begins.

        Stages begin at epoch 1 and after each epoch in `stages`, which pre-training sets.
        """
        begins = epoch == 1 or epoch - 1 in self.stages
        if self.config.graph == "epoch" or (self.config.graph == "stage" and begins):
            self.table.copy_(self.rows.knn_graph(self.memory(), self.config.k))

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean of L_ins + lambda w(t) L_inv over the batch (equation 7), and what `end_step` writes."""
        feature = F.normalize(self.head(self.encoder(views[0])).to(self.bank.dtype), dim=1)
        factor = self.config.weight * ramp(self.config.ramp, epoch, self.config.ramp_epoch)
        with torch.no_grad():
            anchors, numbers = self.rows.all_anchors(feature.detach(), index)
            terms, neighbours, metrics = self._measure(anchors, numbers, factor)
            *terms, neighbours = self.rows.own_anchors(*terms, neighbours)
            instance, invariance, gradient = terms[0].mean(), terms[1].mean(), terms[2] / len(index)
            loss = instance + factor * invariance
        metrics |= {"loss_instance": instance, "loss_invariance": invariance}
        memory = {"feature": feature.detach(), "neighbours": neighbours}
        return {"loss": attach_gradient(feature, loss, gradient), "memory": memory, "metrics": metrics}

    @torch.no_grad()
    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Writes the batch's rows of the bank and, with the lazy graph, of the table."""
        rows = self.rows.update(self.bank, index, memory["feature"], self.config.momentum)
        if self._half is not None:
            self._half[rows] = self.bank[rows].half()
        if self.config.graph == "lazy":
            self.table[index] = memory["neighbours"][last_occurrence(index)]

    def memory(self) -> Tensor:
        """The rows of the bank, NxD, normalised; those of this process where it is sharded."""
        return F.normalize(self.bank, dim=1)

    @torch.no_grad()
    def positives(self, anchors: Tensor) -> dict[str, Tensor]:
        """The positives of the anchors (numbers, A) by the graph as it stands, one entry for each pair.

        `anchor`, `positive` int64; `distance` int8; `similarity` float32, the cosine to the anchor's own row of
        the bank; `hard` bool.
        """
        rows = self.memory()
        feature = rows[anchors]
        found = self._discover(anchors, lambda: top_k(feature, rows, self.config.num_neighbours + 1))
        similarity = selected_similarities(feature, rows, found.index)
        count = found.index.shape[1] if self.config.positives == "knn" else self.config.num_positives
        columns, chosen = extreme_positives(similarity, found.mask, count, hardest=self.config.positives != "easy")
        hard = torch.zeros_like(found.mask).scatter_(1, columns, chosen)
        place = found.mask.nonzero()
        values = {"positive": found.index, "distance": found.distance, "similarity": similarity, "hard": hard}
        return {"anchor": anchors[place[:, 0]]} | {name: value[found.mask] for name, value in values.items()}

    def _measure(self, feature: Tensor, index: Tensor, factor: float) -> tuple[BatchLoss, Tensor, dict]:
        """One search, then loss and gradient by the features for each anchor, the new rows of the table, and metrics."""
        near, near_index, candidates = self._search(feature)
        neighbours = nearest_first(*candidates, self.config.k, exclude=index)[1]
        positives = self._discover(index, lambda: candidates) if self.config.weight > 0 else None
        weighing = Weighing(
            self.config.temperature,
            factor,
            self.config.num_neighbours if self.config.positives == "knn" else self.config.num_positives,
            self.config.positives != "easy",
            self.config.background,
            self.config.eps,
        )
        chunk = 1 << (24 if feature.is_cuda else 17)  # on a GPU launches are dear, on a CPU copies
        terms = batch_loss(feature, self.bank, index, near, near_index, positives, weighing, part=self.rows.part, chunk=chunk)
        metrics = {
            "uniform_loss": feature.new_tensor(math.log(self.num_near)),
            "num_positives": (positives.mask.sum() if positives else feature.new_zeros(())) / len(index),
            "feature_std": feature.std(0, correction=0).mean(),
        }
        return terms, neighbours, metrics

    def _search(self, feature: Tensor) -> tuple[Tensor, Tensor | None, tuple[Tensor, Tensor]]:
        """Similarities and numbers of the M nearest rows (None: all), and candidates for the nearest neighbours."""
        others = self.config.k if self.config.positives != "knn" else max(self.config.k, self.config.num_neighbours)
        num_rows = self.rows.num_samples
        wanted = min(max(self.num_near, others + 1), num_rows)
        block = len(self.bank) if self.num_near == num_rows or not feature.is_cuda else min(131072, len(self.bank))
        if self.num_near == num_rows and self.rows.part is None:
            near = similarities(feature, self.bank, self._workspace(feature, block))
            return near, None, largest(near, others + 1)
        if self.config.search == "fp16":
            found = self._found_in_16_bits(feature, wanted, block)
        else:
            found = self.rows.top_k(feature, self.bank, wanted, block=block, buffer=self._workspace(feature, block))
        near = found if wanted == self.num_near else merge_topk(*found, self.num_near)
        return *near, found

    def _found_in_16_bits(self, feature: Tensor, wanted: int, block: int) -> tuple[Tensor, Tensor]:
        """The nearest rows by 16-bit products, with a margin of an eighth; scored in 32 bits, the nearest of them stay."""
        if self._half is None or self._half.shape != self.bank.shape or self._half.device != self.bank.device:
            self._half = self.bank.half()
        half = feature.half()
        margin = min(wanted + wanted // 8 + 32, self.rows.num_samples)
        index = self.rows.top_k(half, self._half, margin, block=block, buffer=self._workspace(half, block))[1]
        return merge_topk(selected_similarities(feature, self.bank, index, part=self.rows.part), index, wanted)

    def _workspace(self, feature: Tensor, width: int) -> Tensor:
        """Flat memory for the search, kept between steps; it is no state."""
        old, needed = self._buffer, len(feature) * width
        if old is None or old.numel() < needed or old.device != feature.device or old.dtype != feature.dtype:
            self._buffer = feature.new_empty(needed)
        return self._buffer

    def _discover(self, anchors: Tensor, candidates: Callable[[], tuple[Tensor, Tensor]]) -> Positives:
        if self.config.positives != "knn":
            return discover(self.table, anchors, self.config.steps, union=self.config.union)
        index = nearest_first(*candidates(), self.config.num_neighbours, exclude=anchors)[1]
        mask = index != ABSENT
        return Positives(index.masked_fill(~mask, 0), mask, torch.ones_like(index, dtype=torch.int8))


def _width(encoder: nn.Module, head: nn.Module) -> int:
    """The number of outputs of a head: those of its last linear layer, or the encoder's features where it has none."""
    return [encoder.num_features, *(m.out_features for m in head.modules() if isinstance(m, nn.Linear))][-1]
