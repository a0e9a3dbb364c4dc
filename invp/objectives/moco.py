"""Momentum Contrast (He et al., CVPR 2020; version 2: Chen et al., arXiv 2003.04297): a queue of a momentum encoder's keys.

Version 1 has a linear head and tau 0.07. Version 2 has tau 0.2 and, in other sections of an experiment, an MLP head,
blur and a cosine schedule. B batch over all ranks, b that of one, D dimensions, K keys in the queue.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.contrastive import info_nce
from invp.core.selection import hashed_indices
from invp.objectives._momentum import MomentumCopy
from invp.plumbing.options import option
from invp.training.distributed import gather, rank_and_world_size

SHUFFLE_STREAM = 1 << 32  # keeps the draws of the shuffle apart from others of the same seed


@dataclass
class Config:
    """Options of MoCo; the defaults are those of version 1 for ImageNet."""

    num_keys: int = option(65536, "K, keys of earlier batches", least=1)
    momentum: float = option(0.999, "m of the key encoder", least=0, most=1)
    temperature: float = option(0.07, "tau; version 2 has 0.2", above=0)
    norm_group: int = option(32, "shuffled images that share the key encoder's batch statistics; 0: all, unshuffled", least=0)


class Objective(nn.Module):
    """MoCo with its momentum encoder `key`, and its `queue` (KxD) with the `pointer` to the oldest key."""

    views = 2
    queue: Tensor
    pointer: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head, self.seed = config, encoder, head, seed
        self.key = MomentumCopy(encoder, head, config.momentum, config.norm_group)
        widths = [module.out_features for module in head.modules() if isinstance(module, nn.Linear)]
        width = widths[-1] if widths else encoder.num_features
        keys = torch.randn(config.num_keys, width, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("queue", F.normalize(keys, dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing: the only memory is the queue, which `end_step` updates."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean of InfoNCE over the batch's two views, and what `end_step` writes. Only queries carry a gradient."""
        return self.against_queue(*self.embeddings(views, index, epoch))

    def embeddings(self, views: list[Tensor], index: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """The queries of the first view and, without gradient, the keys of the second: bxD each, unit vectors."""
        query = F.normalize(self.head(self.encoder(views[0])), dim=1)
        with torch.no_grad():
            return query, self._keys(views[1], index, epoch)

    def against_queue(self, query: Tensor, key: Tensor) -> dict:
        """The mean of InfoNCE of queries and keys (bxD each), and what `end_step` writes."""
        loss = info_nce(query, key, self.queue, self.config.temperature).mean()
        metrics = {
            "loss_instance": loss.detach(),
            "uniform_loss": loss.new_tensor(math.log(len(self.queue) + 1)),
            "feature_std": query.detach().std(0, correction=0).mean(),
        }
        return {"loss": loss, "memory": {"feature": query.detach(), "key": key}, "metrics": metrics}

    @torch.no_grad()
    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Replaces the oldest keys of the queue by the batch's, and moves the momentum encoder."""
        keys = memory["key"][-len(self.queue) :]
        rows = (self.pointer + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[rows] = keys.to(self.queue.dtype)
        self.pointer.copy_((self.pointer + len(keys)) % len(self.queue))
        self.key.follow(self.encoder, self.head)

    def _keys(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """The keys (bxD) of the images, from a shuffled batch, so that batch statistics do not give a pair away."""
        if not self.config.norm_group:
            return self.key(images)
        rank, world_size = rank_and_world_size()
        draws = hashed_indices(gather(index), 1, 1 << 62, seed=self.seed + SHUFFLE_STREAM, epoch=epoch)[:, 0]
        # A rank takes every world_size-th image of the shuffled batch: so the groups are the same for every number of ranks.
        order = draws.argsort(stable=True).view(-1, world_size).T.flatten()
        own = slice(rank * len(images), (rank + 1) * len(images))
        keys = gather(self.key(gather(images)[order[own]]))
        return keys[order.argsort()[own]]
