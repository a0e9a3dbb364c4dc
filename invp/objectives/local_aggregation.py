"""Local Aggregation (Zhuang et al., ICCV 2019): of the nearest rows, those that share a cluster with the image are drawn in.

N samples, B batch, D dimensions, H clusterings, M background neighbours.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from invp.core.clusters import kmeans
from invp.core.contrastive import set_loss
from invp.core.neighbours import top_k
from invp.core.selection import weighted_rows
from invp.objectives import instance_discrimination
from invp.objectives._options import require, require_faiss
from invp.plumbing.errors import UserError
from invp.training.distributed import from_first


@dataclass
class Config(instance_discrimination.Config):
    """Options of Local Aggregation; the defaults are the paper's for ImageNet."""

    loss: str = "nce"  # of the warm-up: as of instance_discrimination
    num_negatives: int = 4096  # of the warm-up
    num_background: int = 4096  # M, the size of B_i
    num_clusterings: int = 10  # H
    num_clusters: int = 30000  # of each clustering
    iterations: int = 20  # of k-means
    warmup_epochs: int = 10  # of instance discrimination

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ("num_background", "num_clusterings", "num_clusters", "iterations"):
            require(getattr(self, key) >= 1, self, key, "at least 1")
        require(self.bank == "replicated", self, "bank", "replicated: its clusters need all rows")
        require(self.warmup_epochs >= 0, self, "warmup_epochs", "at least 0")


class Objective(instance_discrimination.Objective):
    """Local Aggregation: the bank, and the number of each row's cluster in each clustering, `cluster` (HxN)."""

    cluster: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        require_faiss()
        super().__init__(config, encoder, head, num_samples, seed=seed)
        if config.num_clusters > num_samples:
            raise UserError(f"objective: num_clusters must be at most the {num_samples} images, and is {config.num_clusters}")
        self.register_buffer("cluster", torch.zeros(config.num_clusterings, num_samples, dtype=torch.int32))

    @torch.no_grad()
    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Clusters the bank anew H times, once the warm-up is over."""
        if epoch <= self.config.warmup_epochs:
            return
        rows = self.memory()
        for place in range(self.config.num_clusterings):
            seed = (self.seed * 1000003 + epoch * self.config.num_clusterings + place) % (1 << 31)
            found = kmeans(rows, self.config.num_clusters, seed=seed, iterations=self.config.iterations)
            self.cluster[place] = from_first(found.cluster).to(torch.int32)

    def measure(self, feature: Tensor, index: Tensor, epoch: int, memory: dict) -> tuple[Tensor, Tensor, float | Tensor]:
        """-log P(C_i n B_i) / P(B_i) (equation 4); in the warm-up the loss of instance discrimination."""
        if epoch <= self.config.warmup_epochs:
            return super().measure(feature, index, epoch, memory)
        near, near_index = top_k(feature, self.bank, min(self.config.num_background, len(self.bank)))
        members = torch.zeros_like(near, dtype=torch.bool)
        for cluster in self.cluster:
            members |= cluster[near_index] == cluster[index][:, None]
        losses, by_near = set_loss(near, members, self.config.temperature)
        uniform = math.log(near.shape[1]) - members.sum(1).clamp(min=1).log().mean()
        return losses, weighted_rows(by_near, self.bank, near_index), uniform
