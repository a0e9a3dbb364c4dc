"""Local Aggregation (Zhuang et al., ICCV 2019): an image's positives are the nearest rows that share a cluster with it.

N samples, B batch, D dimensions, H clusterings, M background neighbours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from invp.core.contrastive import set_loss
from invp.core.neighbours import top_k
from invp.core.selection import weighted_rows
from invp.objectives import instance_discrimination
from invp.objectives._clusters import shared_kmeans
from invp.objectives._options import require, require_faiss, steady_within_an_epoch
from invp.plumbing.options import option


@dataclass
class Config(instance_discrimination.Config):
    """Options of Local Aggregation; the defaults are the paper's for ImageNet."""

    loss: str = option("nce", "the loss of the warm-up, as in instance_discrimination", choices=instance_discrimination.LOSSES)
    num_negatives: int = option(4096, "those of the warm-up, as in instance_discrimination", least=0)
    bank: str = option("replicated", "every process holds all rows: the clusters need them", choices=("replicated",))
    num_background: int = option(4096, "M, the size of B_i, at most N", least=1)
    num_clusterings: int = option(10, "H", least=1)
    num_clusters: int = option(30000, "of each clustering, at most N", least=1)
    iterations: int = option(20, "of k-means", least=1)
    warmup_epochs: int = option(10, "of instance discrimination", least=0)


MEMORY = "bank"  # the buffer with a row an image, of which a neighbour graph can be made


steady = steady_within_an_epoch


class Objective(instance_discrimination.Objective):
    """Local Aggregation with its memory: the `bank` (NxD), and the `cluster` (HxN) of each row in each clustering.

    Differs: k-means begins from other rows in each epoch and is fitted to at most 256 rows a cluster (authors: the same seeds in every
    epoch, all rows); the warm-up is the run's own (authors: a checkpoint of instance discrimination).
    """

    cluster: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        require_faiss()
        super().__init__(config, encoder, head, num_samples, seed=seed)
        for key in ("num_clusters", "num_background"):
            require(getattr(config, key) <= num_samples, config, key, f"at most {num_samples}, the number of images")
        self.register_buffer("cluster", torch.zeros(config.num_clusterings, num_samples, dtype=torch.int32))

    @torch.no_grad()
    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Makes H new clusterings of the bank in every epoch after the warm-up."""
        if epoch <= self.config.warmup_epochs:
            return
        rows = self.memory()
        for number in range(self.config.num_clusterings):
            seed = (self.seed * 1000003 + epoch * self.config.num_clusterings + number) % (1 << 31)
            clusters = shared_kmeans(rows, self.config.num_clusters, seed=seed, iterations=self.config.iterations)
            self.cluster[number] = clusters.cluster.to(torch.int32)

    def loss_and_gradient(self, feature: Tensor, index: Tensor, epoch: int, memory: dict) -> tuple[Tensor, Tensor, float | Tensor]:
        """-log P(C_i n B_i) / P(B_i) of each anchor (equation 4); in the warm-up, instance discrimination."""
        if epoch <= self.config.warmup_epochs:
            return super().loss_and_gradient(feature, index, epoch, memory)
        near, near_index = top_k(feature, self.bank, self.config.num_background)
        members = torch.zeros_like(near, dtype=torch.bool)
        for cluster in self.cluster:
            members |= cluster[near_index] == cluster[index][:, None]
        losses, by_near = set_loss(near, members, self.config.temperature)
        uniform = math.log(near.shape[1]) - members.sum(1).clamp(min=1).log().mean()
        return losses, weighted_rows(by_near, self.bank, near_index), uniform
