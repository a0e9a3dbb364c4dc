"""Momentum Contrast (He et al., CVPR 2020; version 2: Chen et al., arXiv 2003.04297): a queue of a momentum encoder's keys.

Version 1 has a linear head and tau 0.07. Version 2 has tau 0.2 and, in other sections of an experiment, an MLP head,
blur and a cosine schedule. B batch over all ranks, b that of one, D dimensions, K keys in the queue.
"""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from invp.core.contrastive import info_nce
from invp.objectives._options import steady_within_an_epoch
from invp.objectives._queue import QueueOfKeys
from invp.plumbing.options import option


@dataclass
class Config:
    """Options of MoCo; the defaults are those of version 1 for ImageNet."""

    num_keys: int = option(65536, "K, keys of earlier batches", least=1)
    momentum: float = option(0.999, "m of the key encoder", least=0, most=1)
    temperature: float = option(0.07, "tau; version 2 has 0.2", above=0)
    norm_group: int = option(32, "shuffled images that share the key encoder's batch statistics; 0: all, unshuffled", least=0)


steady = steady_within_an_epoch


class Objective(QueueOfKeys):
    """MoCo with its momentum encoder and its queue."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean of InfoNCE over the batch's two views, and what `end_step` writes. Only queries carry a gradient."""
        return self.against_queue(*self.embeddings(views, index, epoch))

    def embeddings(self, views: list[Tensor], index: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """The queries of the first view and, without gradient, the keys of the second: bxD each, unit vectors."""
        query = F.normalize(self.head(self.encoder(views[0])), dim=1)
        return query, self.keys(views[1], index, epoch)

    def against_queue(self, query: Tensor, key: Tensor) -> dict:
        """The mean of InfoNCE of queries and keys (bxD each), and what `end_step` writes."""
        loss = info_nce(query, key, self.queue, self.config.temperature).mean()
        metrics = {
            "loss_instance": loss.detach(),
            "uniform_loss": loss.new_full((), math.log(len(self.queue) + 1)),
            "feature_std": query.detach().std(0, correction=0).mean(),
        }
        return {"loss": loss, "memory": {"feature": query.detach(), "key": key}, "metrics": metrics}
