"""SwAV (Caron et al., NeurIPS 2020): each view of an image predicts to which prototypes another view was assigned.

B batch over all ranks, b that of one, D dimensions, K prototypes, V views, Q rows of the queue.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.codes import sinkhorn, swapped_prediction
from invp.models.heads import embedding_width
from invp.objectives._batch import own_rows
from invp.objectives._crops import LARGE, features_of
from invp.objectives._options import require, steady_within_an_epoch
from invp.plumbing.options import option
from invp.training.distributed import gather

MULTI_CROP = True


@dataclass
class Config:
    """Options of SwAV; the defaults are the paper's for ImageNet with large batches, but for small views, of which it has six."""

    num_prototypes: int = option(3000, "K", least=2)
    temperature: float = option(0.1, "tau of the prediction", above=0)
    epsilon: float = option(0.05, "of the codes: the smaller, the nearer to one prototype an image", above=0)
    rounds: int = option(3, "of Sinkhorn's scaling, which makes prototypes equally frequent", least=1)
    num_small: int = option(0, "views beside the two that have codes; the section `views` says how small", least=0)
    frozen_epochs: int = option(1, "first epochs in which prototypes stay", least=0)
    queue_length: int = option(0, "Q, embeddings of earlier batches that count in the codes: for small batches", least=0)
    queue_after: int = option(15, "epochs without the queue", least=0)


def num_views(config: Config) -> int:
    """The views of each image in a step."""
    return LARGE + config.num_small


steady = steady_within_an_epoch


class Objective(nn.Module):
    """SwAV with its `prototypes` (KxD, unit rows) and a `queue` (2xQxD) of each large view, with the `pointer` to its oldest row.

    Differs: the queue is filled from the first step, so that it is full when it is first used (authors: it is filled from `queue_after` on,
    and used when full). Embeddings of all processes are gathered, not sums of scores: the codes are the same.
    """

    queue: Tensor
    pointer: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        most = config.queue_after * num_samples // 2  # an epoch leaves out less than a batch, so less than half of the images
        what = f"at most {most}, what half the images fill in queue_after epochs"
        require(config.queue_length <= most, config, "queue_length", what)
        self.config, self.encoder, self.head = config, encoder, head
        self.views = num_views(config)
        width = embedding_width(encoder, head)
        # As the authors' directions: those of a linear layer's usual start.
        rows = 2 * torch.rand(config.num_prototypes, width, generator=torch.Generator().manual_seed(seed)) - 1
        self.prototypes = nn.Parameter(F.normalize(rows, dim=1))
        self.register_buffer("queue", torch.zeros(LARGE, config.queue_length, width))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing: prototypes are learned, and the queue is updated by `end_step`."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean of the cross-entropy between each code and every other view's softmax over the prototypes."""
        prototypes = self.prototypes
        if epoch <= self.config.frozen_epochs:
            # A gradient of exactly 0: DDP and the optimiser get one, and what a decay of weights shrinks is normalised again.
            prototypes = prototypes.detach() + 0 * prototypes
        features = self._embeddings(views)
        with torch.no_grad():
            codes = self._codes(features[:LARGE].detach(), epoch)
        loss = swapped_prediction(features @ prototypes.T, codes, self.config.temperature)
        first, second = features[:LARGE].detach()
        metrics = {
            "loss_instance": loss.detach(),
            "uniform_loss": loss.new_full((), math.log(len(self.prototypes))),
            "feature_std": first.std(0, correction=0).mean(),
        }
        return {"loss": loss, "memory": {"feature": first, "second": second}, "metrics": metrics}

    @torch.no_grad()
    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Gives the prototypes unit length again, before the next step, and replaces the oldest rows of the queue by the batch's."""
        self.prototypes.copy_(F.normalize(self.prototypes, dim=1))
        if length := self.config.queue_length:
            batch = torch.stack([memory["feature"], memory["second"]])[:, -length:]
            rows = (self.pointer + torch.arange(batch.shape[1], device=batch.device)) % length
            self.queue[:, rows] = batch.to(self.queue.dtype)
            self.pointer.copy_((self.pointer + batch.shape[1]) % length)

    def _embeddings(self, views: list[Tensor]) -> Tensor:
        """Unit vectors VxbxD of all views. The head runs once, as the authors have it."""
        features = self.head(features_of(self.encoder, views))
        return F.normalize(features, dim=1).view(len(views), -1, features.shape[1])

    def _codes(self, features: Tensor, epoch: int) -> Tensor:
        """The codes 2xbxK of large views' embeddings 2xbxD, balanced over the batches of all processes and the queue."""
        own, codes = own_rows(features.shape[1], features.device), []
        for view, queue in zip(features, self.queue, strict=True):
            rows = gather(view)
            if epoch > self.config.queue_after:
                rows = torch.cat([rows, queue])
            codes.append(sinkhorn(rows @ self.prototypes.T, self.config.epsilon, self.config.rounds)[own])
        return torch.stack(codes)
