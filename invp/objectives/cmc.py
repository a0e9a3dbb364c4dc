"""CMC (Tian et al., ECCV 2020): an image's lightness and its colours are two views, each looks for the other in its memory bank.

N samples, B batch, D dimensions, F features of both halves, m noise rows.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.bank import initial_rows, update_rows
from invp.core.losses import attach_gradient, exponentials, instance_loss, noise_contrastive_loss
from invp.core.selection import hashed_indices, selected_similarities, weighted_rows
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

INPUT = "l+ab"


@dataclass
class Config:
    """Options of CMC; the defaults are the authors' for ImageNet."""

    loss: str = option("nce", "both have the own and m noise rows; infonce: a softmax over them", choices=("nce", "infonce"))
    num_negatives: int = option(16384, "m, noise rows, which are drawn", least=1)
    momentum: float = option(0.5, "m of the banks", least=0, below=1)
    temperature: float = option(0.07, "tau", above=0)


class Objective(nn.Module):
    """CMC with its memories `bank_l` and `bank_ab` (NxD) and, for nce, `log_partition` (2, NaN until the first step).

    The head gets the features of both halves side by side, with zeros in place of the half that is not meant. So it has weights of its own
    for each half, and its output for both together, the `embedding` of evaluations, is with a linear head the sum of the two that are
    trained (less one bias).

    Differs: the halves share the head's bias, and with an mlp head its second layer.
    """

    views = 1
    bank_l: Tensor
    bank_ab: Tensor
    log_partition: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head, self.seed = config, encoder, head, seed
        linear = [module.out_features for module in head.modules() if isinstance(module, nn.Linear)]
        if not linear:  # the halves would have no dimension in common
            raise UserError("head.kind is none, and the objective cmc compares projections of the two halves; valid: linear, mlp")
        self.register_buffer("bank_l", initial_rows(num_samples, linear[-1], seed=seed))
        self.register_buffer("bank_ab", initial_rows(num_samples, linear[-1], seed=seed + 1))
        self.register_buffer("log_partition", torch.full((2,), math.nan))

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing: the memory is the banks, which `end_step` updates."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean over the batch of L(lightness, `bank_ab`) + L(colours, `bank_l`) and what `end_step` writes."""
        light, colour, both = self._embeddings(views[0])
        noise = hashed_indices(index, self.config.num_negatives, len(self.bank_l), seed=self.seed, epoch=epoch)
        against = zip((light, colour), (self.bank_ab, self.bank_l), self.log_partition, strict=True)
        parts = [self._loss(feature, bank, index, noise, partition) for feature, bank, partition in against]
        loss = parts[0]["loss"] + parts[1]["loss"]
        count = self.config.num_negatives
        uniform = math.log(count + 1)
        if self.config.loss == "nce":  # where every P is 1/N
            uniform = math.log(1 + count) + count * math.log1p(1 / count)
        metrics = {
            "loss_instance": loss.detach(),
            "uniform_loss": loss.new_full((), 2 * uniform),
            "pretext_accuracy": 50 * (parts[0]["first"] + parts[1]["first"]),
            "feature_std": both.std(0, correction=0).mean(),
        }
        memory = {"feature": both, "light": light.detach(), "colour": colour.detach()}
        if self.config.loss == "nce":
            memory["log_partition"] = torch.stack([part["log_partition"] for part in parts], 1)
        return {"loss": loss, "memory": memory, "metrics": metrics}

    @torch.no_grad()
    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Updates the batch's rows of both banks. With nce, the first step also fixes Z of each: the mean over its batch."""
        update_rows(self.bank_l, index, memory["light"], self.config.momentum)
        update_rows(self.bank_ab, index, memory["colour"], self.config.momentum)
        if "log_partition" in memory:
            mean = torch.logsumexp(memory["log_partition"], 0) - math.log(len(index))
            self.log_partition.copy_(torch.where(self.log_partition.isnan(), mean, self.log_partition))

    def _embeddings(self, images: Tensor) -> tuple[Tensor, ...]:
        """The unit rows, BxD each, of the lightness, of the colours, and of both together without gradient."""
        light, colour = self.encoder.halves(images)
        halves = [(light, torch.zeros_like(colour)), (torch.zeros_like(light), colour), (light.detach(), colour.detach())]
        rows = self.head(torch.cat([torch.cat(pair, 1) for pair in halves]))
        light, colour, both = F.normalize(rows.to(self.bank_l.dtype), dim=1).chunk(3)
        return light, colour, both.detach()

    def _loss(self, feature: Tensor, bank: Tensor, index: Tensor, noise_index: Tensor, partition: Tensor) -> dict[str, Tensor]:
        """The mean loss of one half's features (BxD) against the other half's bank, and how many find their own row first.

        `noise_index` is Bxm. Also returned is each anchor's estimate of log Z, B.
        """
        lists = torch.cat([index[:, None], noise_index], 1)
        tau, count = self.config.temperature, self.config.num_negatives
        with torch.no_grad():
            all_similarities = selected_similarities(feature, bank, lists)
            own, noise = all_similarities[:, 0], all_similarities[:, 1:]
            # Differs from the authors' code: in the first step each anchor has its own Z, and afterwards Z is the mean of these.
            estimate = torch.logsumexp(all_similarities / tau, 1) + math.log(len(bank) / (count + 1))
            if self.config.loss == "infonce":
                terms = instance_loss(own, exponentials(all_similarities, tau), tau)
                by_own, by_noise = terms.by_own + terms.by_near[:, 0], terms.by_near[:, 1:]
            else:
                terms = noise_contrastive_loss(own, noise, torch.where(partition.isnan(), estimate, partition), len(bank), tau)
                by_own, by_noise = terms.by_own, terms.by_near
            gradient = weighted_rows(torch.cat([by_own[:, None], by_noise], 1), bank, lists)
            first = (own >= noise.amax(1)).float().mean()
        loss = attach_gradient(feature, terms.loss.mean(), gradient / len(index))
        return {"loss": loss, "first": first, "log_partition": estimate}
