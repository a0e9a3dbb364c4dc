"""DeepCluster (Caron et al., ECCV 2018): a classifier learns the clusters that k-means finds in the network's own features.

N samples, B batch over all processes, b that of one, D dimensions, K clusters.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.selection import mixed_seed
from invp.core.whitening import whitened
from invp.models.heads import embedding_width
from invp.objectives._clusters import shared_kmeans
from invp.objectives._options import require, require_faiss, steady_within_an_epoch
from invp.plumbing.options import option
from invp.training.distributed import gather, rank_and_world_size

CLASSIFIER_STREAM = 5 << 33  # keeps the classifier's beginnings apart from other draws of the same seed
BEGIN = 0.01  # the standard deviation of the weights of a new classifier


@dataclass
class Config:
    """Options of DeepCluster; the number of clusters is the paper's for ImageNet."""

    num_clusters: int = option(10000, "K, at most N", least=2)
    components: int = option(
        256, "principal components of the features that are whitened and clustered; 0: the features as they are", least=0
    )
    iterations: int = option(20, "of k-means", least=1)
    even: bool = option(
        True, "all clusters count alike; false: all images do, and one giant cluster can become the answer to everything"
    )
    classifier_rate: float = option(0.05, "the learning rate of the classifier, in every epoch", above=0)
    classifier_decay: float = option(1e-5, "its weight decay", least=0)


steady = steady_within_an_epoch


class Objective(nn.Module):
    """DeepCluster with the `cluster` of each image (N), the `count` of images in each (K), and the classifier, `weight` (KxD) and `bias` (K).

    Features are the head's. The classifier is begun anew with every clustering, since the numbers of clusters mean nothing beyond it. It is no
    parameter, but a buffer with a gradient in closed form and descent of its own without momentum: nothing of the last one is left, neither
    weights nor momentum, and the training's optimiser, rate and decay do not touch it.
    Differs: clusters count alike by the weights of their images (the paper: images are drawn evenly over clusters); k-means is fitted to at most
    256 rows a cluster; no Sobel filter (`encoder: {input: l}` takes the colours away); there is no ReLU between the head and the classifier.
    """

    views = 1
    cluster: Tensor
    count: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        require_faiss()
        super().__init__()
        require(config.num_clusters <= num_samples, config, "num_clusters", f"at most {num_samples}, the number of images")
        self.config, self.encoder, self.head, self.seed = config, encoder, head, seed
        self.register_buffer("cluster", torch.zeros(num_samples, dtype=torch.long))
        self.register_buffer("count", torch.ones(config.num_clusters, dtype=torch.long))
        self.register_buffer("weight", torch.zeros(config.num_clusters, embedding_width(encoder, head)))
        self.register_buffer("bias", torch.zeros(config.num_clusters))

    @torch.no_grad()
    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Clusters the features of all images (whitened, of unit length), and begins a new classifier."""
        rows = embed(lambda images: self.head(self.encoder(images)))
        if self.config.components:
            rows = whitened(rows, self.config.components)
        seed = (self.seed * 1000003 + epoch) % (1 << 31)
        rows = F.normalize(rows, dim=1)
        self.cluster.copy_(shared_kmeans(rows, self.config.num_clusters, seed=seed, iterations=self.config.iterations).cluster)
        self.count.copy_(torch.bincount(self.cluster, minlength=self.config.num_clusters))
        generator = torch.Generator().manual_seed(mixed_seed(self.seed + CLASSIFIER_STREAM, epoch))
        self.weight.copy_(BEGIN * torch.randn(self.weight.shape, generator=generator))
        self.bias.zero_()

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean over images, weighted so that clusters count alike, of the cross-entropy of their clusters (equation 1)."""
        feature, cluster = self.head(self.encoder(views[0])), self.cluster[index]
        logits = F.linear(feature, self.weight, self.bias)
        weight = self.image_weights(cluster)
        terms = weight * F.cross_entropy(logits, cluster, reduction="none")
        loss = terms.sum() / (gather(weight).sum() / rank_and_world_size()[1])  # the mean over ranks is that over the batch
        share = self.count * self.cluster_weights()
        metrics = {
            "loss_instance": loss.detach(),
            "uniform_loss": torch.special.entr(share / share.sum()).sum(),
            "pretext_accuracy": 100 * (logits.detach().argmax(1) == cluster).float().mean(),
            "clusters": (self.count > 0).sum(),
            "largest_cluster": self.count.max() / len(self.cluster),
        }
        rows = feature.detach()
        return {"loss": loss, "memory": {"feature": F.normalize(rows, dim=1), "row": rows}, "metrics": metrics}

    @torch.no_grad()
    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """One step of the classifier down the gradient of the batch's loss, with the weights that `forward` saw."""
        rows, cluster = memory["row"], self.cluster[index]
        by_logit = torch.softmax(F.linear(rows, self.weight, self.bias), 1)
        by_logit.scatter_add_(1, cluster[:, None], by_logit.new_full((len(rows), 1), -1.0))
        weight = self.image_weights(cluster)
        by_logit *= (weight / weight.sum())[:, None]
        decay = self.config.classifier_decay
        self.weight -= self.config.classifier_rate * (by_logit.T @ rows + decay * self.weight)
        self.bias -= self.config.classifier_rate * (by_logit.sum(0) + decay * self.bias)

    def cluster_weights(self) -> Tensor:
        """What an image of each cluster counts (K): one over the images in it. A cluster without images is in no batch."""
        return 1 / self.count.clamp(min=1) if self.config.even else torch.ones_like(self.bias)

    def image_weights(self, cluster: Tensor) -> Tensor:
        """What images of these clusters count."""
        return self.cluster_weights()[cluster]
