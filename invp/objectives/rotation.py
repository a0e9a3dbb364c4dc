"""Rotation (Gidaris, Singh and Komodakis, ICLR 2018): by which of four quarter turns was the image turned?

Views should have no rotation and no vertical flip among their augmentations. `rot90` copies pixels, so that neither a filled corner nor
interpolation tells the turn. All four copies of an image are in one batch. B images, D dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from invp.models.heads import embedding_width
from invp.objectives._classified import classified, mlp
from invp.objectives._options import steady_within_an_epoch

TURNS = 4


@dataclass
class Config:
    """Rotation has no options: the four turns are the paper's."""


steady = steady_within_an_epoch


class Objective(nn.Module):
    """Rotation with its `classifier` of the head's output; with `head: {kind: none}` it is linear on the features, as published."""

    views = 1

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head = config, encoder, head
        self.classifier = mlp(embedding_width(encoder, head), TURNS)

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean over the batch and r = 0 to 3 of -log softmax(W f(turned by r))_r (equations 2 and 3); the feature is of r = 0."""
        embeddings = self.head(self.encoder(turned(views[0])))
        labels = torch.arange(TURNS, device=embeddings.device).repeat_interleave(len(index))
        return classified(self.classifier(embeddings), labels, embeddings[: len(index)])

    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Does nothing."""


def turned(images: Tensor) -> Tensor:
    """Images (BxCxHxH) turned by 0, 1, 2 and 3 quarters against the clock, all of one turn after the other: (4B)xCxHxH."""
    return torch.cat([torch.rot90(images, turn, (2, 3)) for turn in range(TURNS)])
