"""SimCLR (Chen et al., ICML 2020): two views of an image find each other among all views of the batch.

B batch over all ranks, b that of one, D dimensions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.contrastive import nt_xent
from invp.objectives._batch import own_rows
from invp.plumbing.options import option
from invp.training.distributed import gather


@dataclass
class Config:
    """Options of SimCLR; the paper has 0.1 for ImageNet and 0.5 for CIFAR-10."""

    temperature: float = option(0.5, "tau", above=0)


def steady(config: Config, epoch: int) -> tuple:
    """The operations of a step depend on nothing of the epoch."""
    return ()


class Objective(nn.Module):
    """SimCLR; it has no memory."""

    views = 2

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head = config, encoder, head

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean of NT-Xent of this rank's 2b views among all 2B; the gradient flows into all of them."""
        features = F.normalize(self.head(self.encoder(torch.cat(views))), dim=1)
        first, second = features.chunk(2)
        rows = torch.cat([gather(first), gather(second)])
        own = own_rows(len(first), features.device)
        own = torch.cat([own, own + len(rows) // 2])
        loss = nt_xent(features, rows, own, own.roll(len(first)), self.config.temperature).mean()
        metrics = {
            "loss_instance": loss.detach(),
            "uniform_loss": loss.new_full((), math.log(len(rows) - 1)),
            "feature_std": features.detach().std(0, correction=0).mean(),
        }
        return {"loss": loss, "memory": {"feature": first.detach()}, "metrics": metrics}

    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Does nothing."""
