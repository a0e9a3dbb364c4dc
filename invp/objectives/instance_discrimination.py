"""Instance discrimination (Wu et al., CVPR 2018): every image is a class of its own, against a memory bank.

N samples, B batch, D dimensions, M nearest rows or m noise rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.bank import initial_rows
from invp.core.batch_loss import LossOptions, Nearest, batch_loss
from invp.core.losses import attach_gradient, exponentials, instance_loss, noise_contrastive_loss
from invp.core.neighbours import search_block, similarities
from invp.core.selection import hashed_indices, selected_similarities, weighted_rows
from invp.models.heads import embedding_width
from invp.objectives._options import require
from invp.objectives._sharded_bank import BankRows
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

BANKS = ("replicated", "sharded")
LOSSES = ("topm", "full", "infonce", "nce")


@dataclass
class Config:
    """Options of instance discrimination; the defaults equal the instance loss of InvP."""

    loss: str = option(
        "topm", "topm: the M nearest rows (InvP's L_ins); full: all N; infonce, nce: the own and m noise rows", choices=LOSSES
    )
    num_negatives: int = option(4096, "M of topm, at most N, and 0 for all N; m of infonce and nce, which are drawn", least=0)
    momentum: float = option(0.5, "m of the bank", least=0, below=1)
    temperature: float = option(0.07, "tau", above=0)
    bank: str = option("replicated", "replicated: every process holds all rows; sharded: N / processes, for large N", choices=BANKS)

    def __post_init__(self) -> None:
        if self.loss in ("infonce", "nce") and not self.num_negatives:
            raise UserError(f"num_negatives is 0; valid with loss: {self.loss}: a whole number, at least 1")


MEMORY = "bank"  # the buffer with a row an image, of which a neighbour graph can be made


def steady(config: Config, epoch: int) -> tuple:
    """The operations of a step depend on nothing of the epoch where no noise is drawn."""
    return () if config.loss in ("topm", "full") else (epoch,)


class Objective(nn.Module):
    """Instance discrimination with its memory `bank` (NxD) and, for nce, `log_partition` (NaN until the first step)."""

    views = 1
    bank: Tensor
    log_partition: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head, self.seed = config, encoder, head, seed
        if config.loss == "topm":
            words = f"at most {num_samples}, the number of images, or 0 for all of them, with loss: topm"
            require(config.num_negatives <= num_samples, config, "num_negatives", words)
        all_rows = config.loss != "topm" or config.num_negatives == 0
        self.num_near = num_samples if all_rows else config.num_negatives
        width = embedding_width(encoder, head)
        self.register_buffer("bank", initial_rows(num_samples, width, seed=seed))
        self.register_buffer("log_partition", torch.tensor(math.nan))
        self.bank_rows = BankRows(num_samples, config.bank)
        self.bank_rows.shard(self)
        self._buffer: Tensor | None = None

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing: the only memory is the bank, which `end_step` updates."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean loss over the batch of one view (BxCxHxW), and what `end_step` writes."""
        feature = F.normalize(self.head(self.encoder(views[0])).to(self.bank.dtype), dim=1)
        memory = {"feature": feature.detach()}
        with torch.no_grad():
            losses, gradient, uniform = self.own_loss_and_gradient(feature.detach(), index, epoch, memory)
        loss = losses.mean()
        metrics = {
            "loss_instance": loss,
            "uniform_loss": uniform,
            "feature_std": memory["feature"].std(0, correction=0).mean(),
        }
        return {"loss": attach_gradient(feature, loss, gradient / len(index)), "memory": memory, "metrics": metrics}

    @torch.no_grad()
    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Updates the batch's rows of the bank. With nce, the first step also fixes Z: the mean over its batch."""
        self.bank_rows.update(self.bank, index, memory["feature"], self.config.momentum)
        if "log_partition" in memory:
            mean = torch.logsumexp(memory["log_partition"], 0) - math.log(len(index))
            self.log_partition.copy_(torch.where(self.log_partition.isnan(), mean, self.log_partition))

    def memory(self) -> Tensor:
        """The bank, NxD, normalised; this rank's rows alone if it is sharded."""
        return F.normalize(self.bank, dim=1)

    def own_loss_and_gradient(self, feature: Tensor, index: Tensor, epoch: int, memory: dict) -> tuple[Tensor, Tensor, Tensor]:
        """`loss_and_gradient` of this rank's anchors. If the bank is sharded, every rank must call it together."""
        memory_of_all: dict[str, Tensor] = {}
        anchors, numbers = self.bank_rows.all_anchors(feature, index)
        losses, gradient, uniform = self.loss_and_gradient(anchors, numbers, epoch, memory_of_all)
        memory |= {name: self.bank_rows.own_anchors(rows)[0] for name, rows in memory_of_all.items()}
        return *self.bank_rows.own_anchors(losses, gradient), uniform

    def loss_and_gradient(self, feature: Tensor, index: Tensor, epoch: int, memory: dict) -> tuple[Tensor, Tensor, Tensor]:
        """The loss of each anchor (B), its gradient by the feature (BxD), and the mean loss if all features were equal.

        `feature` is BxD, `index` the images' numbers (B). What `end_step` needs besides features goes into `memory`.
        Subclasses override this method.
        """
        against = self._against_nearest if self.config.loss in ("topm", "full") else self._against_noise
        return against(feature, index, epoch, memory)

    def _against_nearest(self, feature: Tensor, index: Tensor, epoch: int, memory: dict) -> tuple[Tensor, Tensor, Tensor]:
        num_rows = len(self.bank)
        block = search_block(feature, num_rows, whole=self.num_near == num_rows)
        if self._buffer is None or self._buffer.numel() < len(feature) * block or self._buffer.device != feature.device:
            self._buffer = feature.new_empty(len(feature) * block)
        row_range = self.bank_rows.row_range
        if self.num_near == num_rows and row_range is None:
            near = Nearest(similarities(feature, self.bank, self._buffer), None)
        else:
            near = Nearest(*self.bank_rows.top_k(feature, self.bank, self.num_near, block=block, buffer=self._buffer))
        options = LossOptions(self.config.temperature)
        loss = batch_loss(feature, self.bank, index, near, None, options, row_range=row_range)
        return loss.instance, loss.gradient, feature.new_full((), math.log(self.num_near))

    def _against_noise(self, feature: Tensor, index: Tensor, epoch: int, memory: dict) -> tuple[Tensor, Tensor, Tensor]:
        tau, count = self.config.temperature, self.config.num_negatives
        num_rows, row_range = self.bank_rows.num_samples, self.bank_rows.row_range
        noise_index = hashed_indices(index, count, num_rows, seed=self.seed, epoch=epoch)
        own = selected_similarities(feature, self.bank, index[:, None], row_range=row_range)[:, 0]
        noise = selected_similarities(feature, self.bank, noise_index, row_range=row_range)
        if self.config.loss == "infonce":
            terms = instance_loss(own, exponentials(torch.cat([own[:, None], noise], 1), tau), tau)
            by_own, by_noise, uniform = terms.by_own + terms.by_near[:, 0], terms.by_near[:, 1:], math.log(count + 1)
        else:
            estimate = torch.logsumexp(torch.cat([own[:, None], noise], 1) / tau, 1)
            estimate += math.log(num_rows / (count + 1))
            # Differs from the paper: in the first step each anchor has its own Z, and afterwards Z is the mean of these.
            # So the number of processes, each of which sees some rows of the batch, changes nothing.
            log_partition = torch.where(self.log_partition.isnan(), estimate, self.log_partition)
            memory["log_partition"] = estimate
            terms = noise_contrastive_loss(own, noise, log_partition, num_rows, tau)
            by_own, by_noise = terms.by_own, terms.by_near
            uniform = math.log(1 + count) + count * math.log1p(1 / count)  # where every P is 1/N
        lists = torch.cat([index[:, None], noise_index], 1)
        gradient = weighted_rows(torch.cat([by_own[:, None], by_noise], 1), self.bank, lists, row_range=row_range)
        return terms.loss, gradient, feature.new_full((), uniform)
