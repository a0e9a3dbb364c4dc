"""NNCLR (Dwibedi et al., ICCV 2021): an image's nearest neighbour in a queue is the positive of its other view.

B images of the batch over all ranks, b those of one, D dimensions, K rows in the queue.
Differs: the projector is the experiment's head, of at most two layers without batch normalisation; the paper's has three with it. Both views
pass through the networks together, so batch statistics are those of both.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.neighbours import in_fp32
from invp.models.heads import build_predictor, embedding_width
from invp.objectives._batch import find_own
from invp.objectives._options import steady_within_an_epoch
from invp.plumbing.options import option
from invp.training.distributed import rank_and_world_size


@dataclass
class Config:
    """Options of NNCLR; the defaults are those for ImageNet."""

    num_rows: int = option(98304, "K, features of earlier batches", least=1)
    temperature: float = option(0.1, "tau", above=0)
    symmetric: bool = option(True, "the second view's neighbours are positives too; false: the first view's alone")
    hidden: int = option(4096, "units of the predictor's hidden layer; 0: no predictor", least=0)
    batch_norm: bool = option(True, "batch normalisation of the predictor's hidden layer")


steady = steady_within_an_epoch


class Objective(nn.Module):
    """NNCLR with its `predictor`, and its `queue` (KxD) with the `pointer` to the oldest row."""

    views = 2
    queue: Tensor
    pointer: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head = config, encoder, head
        width = embedding_width(encoder, head)
        self.predictor = build_predictor(width, config.hidden, config.batch_norm)
        rows = torch.randn(config.num_rows, width, generator=torch.Generator().manual_seed(seed))
        self.register_buffer("queue", F.normalize(rows, dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing: the only memory is the queue, which `end_step` updates."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean over images and directions of -log exp(nn(z_i).p_i/tau) / sum_k exp(nn(z_i).p_k/tau) (equation 2).

        z is of one view, p the predictor's output of the other; k goes over the whole batch. Only p carries a gradient.
        """
        projections = self.head(self.encoder(torch.cat(views)))
        first, second = F.normalize(self.predictor(projections), dim=1).chunk(2)
        features = F.normalize(projections.detach(), dim=1)
        neighbours, similarity = self.nearest(features)
        near_first, near_second = neighbours.chunk(2)
        loss = find_own(near_first, second, self.config.temperature)
        if self.config.symmetric:
            loss = (loss + find_own(near_second, first, self.config.temperature)) / 2
        feature = features[: len(index)]
        metrics = {
            "loss_instance": loss.detach(),
            "uniform_loss": loss.new_full((), math.log(rank_and_world_size()[1] * len(index))),
            "feature_std": feature.std(0, correction=0).mean(),
            "neighbour_similarity": similarity.mean(),
        }
        return {"loss": loss, "memory": {"feature": feature}, "metrics": metrics}

    def nearest(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The row of the queue nearest to each unit vector (?xD), and their similarity (?)."""
        with in_fp32():
            similarity, rows = (features @ self.queue.T).max(1)
        return self.queue[rows], similarity

    @torch.no_grad()
    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Replaces the oldest rows of the queue by the features of the batch's first views."""
        features = memory["feature"][-len(self.queue) :]
        rows = (self.pointer + torch.arange(len(features), device=features.device)) % len(self.queue)
        self.queue[rows] = features.to(self.queue.dtype)
        self.pointer.copy_((self.pointer + len(features)) % len(self.queue))
