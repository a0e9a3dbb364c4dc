"""MoCo v3 (Chen et al., ICCV 2021): each view finds its image's key of the other view among the keys of the batch; there is no queue.

Evaluated is the trained network, as by the authors, and not the momentum encoder.

B images of the batch over all ranks, b those of one, D dimensions.
Differs: the momentum encoder moves after a step's keys are computed (authors: before). Both views pass through the networks together, so
batch statistics are those of both.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.models.heads import build_mlp, embedding_width
from invp.objectives._batch import find_own
from invp.objectives._momentum import MomentumCopy, rising_momentum
from invp.plumbing.options import option
from invp.training.distributed import rank_and_world_size

PROGRESS = True  # of the momentum


@dataclass
class Config:
    """Options of MoCo v3; the defaults are the authors' for ImageNet with a ViT. The projector is the experiment's head: three layers with 4096
    units, batch normalisation of hidden layers and of the embedding."""

    temperature: float = option(0.2, "tau; the authors' ResNet-50 has 1.0", above=0)
    momentum: float = option(0.99, "m of the momentum encoder at the start; it rises to 1 as half a cosine", least=0, most=1)
    hidden: int = option(4096, "hidden units of the predictor", least=1)
    batch_norm: bool = option(True, "batch normalisation of the predictor's hidden layer")
    last_norm: bool = option(True, "and of its output, without weights; the authors' ResNet-50 has none")


def steady(config: Config, epoch: int) -> tuple:
    """The operations of a step depend on nothing of the epoch: the momentum is used after them."""
    return ()


class Objective(nn.Module):
    """MoCo v3 with its `predictor` and its momentum encoder `key`."""

    views = 2
    progress = 0.0

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head = config, encoder, head
        width = embedding_width(encoder, head)
        self.predictor = build_mlp([width, config.hidden, width], config.batch_norm, last_norm=config.last_norm)
        self.key = MomentumCopy(encoder, head, config.momentum)

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """ctr(q1, k2) + ctr(q2, k1), ctr = 2 tau times the cross-entropy by which queries find their own keys among all (Algorithm 1).

        Queries are the predictor's output, and only they carry a gradient.
        """
        images = torch.cat(views)
        first, second = F.normalize(self.predictor(self.head(self.encoder(images))), dim=1).chunk(2)
        with torch.no_grad():
            key_first, key_second = self.key(images).chunk(2)
        tau = self.config.temperature
        entropies = find_own(first, key_second, tau) + find_own(second, key_first, tau)
        metrics = {
            "loss_instance": entropies.detach() / 2,
            "uniform_loss": entropies.new_full((), math.log(rank_and_world_size()[1] * len(index))),
            "feature_std": first.detach().std(0, correction=0).mean(),
        }
        return {"loss": 2 * tau * entropies, "memory": {"feature": first.detach()}, "metrics": metrics}

    @torch.no_grad()
    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Moves the momentum encoder."""
        self.key.follow(self.encoder, self.head, rising_momentum(self.config.momentum, self.progress))
