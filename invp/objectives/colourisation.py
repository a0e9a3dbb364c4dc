"""Colourisation (Zhang et al., ECCV 2016): from an image's lightness, say the class of colour at every place.

B batch, H x W pixels, h x w places, Q bins of colour, n nearest bins.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.colour import ab_centres, class_weights, lab, rgb, soft_bins, soft_cross_entropy
from invp.objectives._colour import accuracy, grey, guessed, logits_at, places
from invp.plumbing.options import option
from invp.training.distributed import from_first

HEAD = False
INPUT = "l"


@dataclass
class Config:
    """Options of colourisation."""

    stride: int = option(4, "pixels of a side of an image for each place whose colour is said; the paper: 4", least=1)
    uniform_share: float = option(
        0.5, "lambda of the classes' weights: near 0, rare colours weigh most; 1: all weigh the same", above=0, most=1
    )
    least_colour: float = option(5.0, "images whose a and b all stay below this do not count; 0: all images count", least=0)
    temperature: float = option(0.38, "T of the annealed mean, by which pictures are coloured; 1: the mean", above=0)


class Objective(nn.Module):
    """Colourisation with its `predict`, a 1x1 convolution to the bins, their `centres` (Qx2) and their `weights` (Q).

    The classes are 261 bins, published 313 (`ab_centres` says why). The encoder is given lightness alone, in training and in every
    evaluation, so no colour can leak. The loss is of places, not of features, so equal features are no collapse that it could tell.

    Differs: the network is the experiment's encoder, whose last maps are interpolated to the places; the paper's has dilated stages.
    Differs: a place's colour is the mean over its pixels of the augmented view; the bins' shares are counted in unaugmented images.
    """

    views = 1
    centres: Tensor
    weights: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head = config, encoder, head
        self.register_buffer("centres", ab_centres())
        self.register_buffer("weights", torch.ones(len(self.centres)))
        encoder.freeze_after(len(encoder.block_names) - 1)
        self.predict = nn.Conv2d(encoder.num_features, len(self.centres), 1)

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Before the first epoch, counts the training images' colours for the weights of the classes (equation 4)."""
        if epoch == 1 and self.config.uniform_share < 1:
            counted = embed(self._shares).sum(0, dtype=torch.float64)
            self.weights.copy_(class_weights(from_first(counted / counted.sum()), self.config.uniform_share))

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """L = -mean over places of w sum_q Z_q log softmax(g(f(lightness)))_q, where a place has the weight w of its nearest bin (equation 2).

        The mean is over all places, also of images that do not count, so that the number of processes changes nothing.
        """
        colours = lab(self.encoder.pixels(views[0]))[:, 1:]
        bins, shares = self._targets(colours)
        logits = self._logits(views[0])
        counts = (colours.abs() >= self.config.least_colour).flatten(1).any(1)
        weight = self.weights[bins[:, 0]] * counts[:, None, None]
        loss = (weight * soft_cross_entropy(logits, bins, shares)).mean()
        return {"loss": loss, "memory": {}, "metrics": {"pretext_accuracy": accuracy(logits, bins[:, 0])}}

    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Does nothing."""

    @torch.no_grad()
    def pictures(self, images: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Normalised images BxCxHxW, what the network sees of them, and the same lightness in the colours that it says: Bx3xHxW in [0, 1]."""
        pixels = self.encoder.pixels(images)
        lightness = lab(pixels)[:, :1]
        colours = guessed(self._logits(images), self.centres, self.config.temperature, images.shape[2:])
        return {"input": pixels, "grey": grey(lightness), "colours": rgb(torch.cat([lightness, colours], 1))}

    def _targets(self, colours: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest bins and their shares, Bxnxhxw, at the places of a and b, Bx2xHxW."""
        size = places(colours.shape[2:], self.config.stride)
        return soft_bins(F.adaptive_avg_pool2d(colours, size), self.centres)

    def _logits(self, images: Tensor) -> Tensor:
        size = places(images.shape[2:], self.config.stride)
        return logits_at(self.encoder, images, self.predict, size)

    def _shares(self, images: Tensor) -> Tensor:
        """The share of each bin in the soft targets of each image, BxQ, a smoothed histogram."""
        bins, shares = self._targets(lab(self.encoder.pixels(images))[:, 1:])
        total = shares.new_zeros(len(images), len(self.centres)).scatter_add(1, bins.flatten(1), shares.flatten(1))
        return total / total.sum(1, keepdim=True)
