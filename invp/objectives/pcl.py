"""Prototypical Contrastive Learning (Li et al., ICLR 2021): MoCo, and clusters of the momentum features as prototypes.

N samples, B batch, D dimensions, K prototypes, G granularities.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.contrastive import concentrations, prototype_loss
from invp.objectives import moco
from invp.objectives._clusters import shared_kmeans
from invp.objectives._options import require_faiss, steady_within_an_epoch
from invp.plumbing.errors import UserError
from invp.plumbing.options import option
from invp.training.distributed import from_first


@dataclass
class Config(moco.Config):
    """Options of PCL; the defaults are the paper's for ImageNet."""

    num_keys: int = option(16384, "K, keys of earlier batches", least=1)
    temperature: float = option(0.2, "tau, also the mean of the prototypes' phi", above=0)
    num_clusters: list[int] = option([25000, 50000, 100000], "K of each granularity, at most N", least=2, filled=True)
    warmup_epochs: int = option(20, "of InfoNCE alone", least=0)
    smooth: float = option(10.0, "alpha of phi", above=1)
    iterations: int = option(20, "of k-means", least=1)


steady = steady_within_an_epoch


class Objective(moco.Objective):
    """PCL with its memory: MoCo's, and for all granularities `cluster` (GxN), `centroids` (sum K x D) and `phi` (sum K).

    Differs: k-means runs once, from other rows in each epoch, fitted to at most 256 rows a cluster (authors: the best of 5 runs, the
    same seeds in every epoch, at most 1,000 rows a cluster).
    """

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        require_faiss()
        super().__init__(config, encoder, head, num_samples, seed=seed)
        if max(config.num_clusters) > num_samples:
            raise UserError(f"objective: num_clusters must be at most the {num_samples} images, and are {config.num_clusters}")
        self.register_buffer("cluster", torch.zeros(len(config.num_clusters), num_samples, dtype=torch.long))
        self.register_buffer("centroids", torch.zeros(sum(config.num_clusters), self.queue.shape[1]))
        self.register_buffer("phi", torch.full((sum(config.num_clusters),), config.temperature))

    @torch.no_grad()
    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """The E-step: makes new clusters of all images' momentum features in every epoch after the warm-up."""
        if epoch <= self.config.warmup_epochs:
            return
        rows = from_first(embed(self.key))
        centroids, phi = [], []
        for granularity, count in enumerate(self.config.num_clusters):
            # Every epoch and granularity has a seed of its own.
            seed = (self.seed * 1000003 + epoch * len(self.config.num_clusters) + granularity) % (1 << 31)
            clusters = shared_kmeans(rows, count, seed=seed, iterations=self.config.iterations)
            self.cluster[granularity] = clusters.cluster
            centroids.append(F.normalize(clusters.centroids, dim=1))
            phi.append(concentrations(clusters.distance, clusters.cluster, count, self.config.temperature, self.config.smooth))
        self.centroids.copy_(torch.cat(centroids))
        self.phi.copy_(from_first(torch.cat(phi)))

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """InfoNCE and, after the warm-up, the mean over granularities of ProtoNCE's second term (equation 11)."""
        query, key = self.embeddings(views, index, epoch)
        output = self.against_queue(query, key)
        if epoch > self.config.warmup_epochs:
            granularities = zip(
                self.cluster,
                self.centroids.split(self.config.num_clusters),
                self.phi.split(self.config.num_clusters),
                strict=True,
            )
            terms = [prototype_loss(query, cluster[index], rows, phi).mean() for cluster, rows, phi in granularities]
            prototypes = torch.stack(terms).mean()
            output["loss"] = output["loss"] + prototypes
            output["metrics"]["loss_prototypes"] = prototypes.detach()
        return output
