"""Split-brain autoencoder (Zhang et al., CVPR 2017): one half says an image's colours from its lightness, the other the lightness.

B batch, H x W pixels, h x w places, Q bins of colour, K bins of lightness.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.colour import ab_centres, lab, rgb, soft_bins, soft_cross_entropy
from invp.objectives._colour import accuracy, grey, guessed, logits_at, places
from invp.plumbing.options import option

HEAD = False
INPUT = "l+ab"


@dataclass
class Config:
    """Options of split-brain autoencoders."""

    stride: int = option(4, "pixels of a side of an image for each place whose colour and lightness are said", least=1)
    light_bins: int = option(100, "K, bins of lightness, equally wide", least=2)
    temperature: float = option(0.38, "T of the annealed mean, by which pictures are drawn; 1: the mean", above=0)


class Objective(nn.Module):
    """The two halves with their 1x1 convolutions, `predict_colour` to Q bins and `predict_light` to K.

    Neither half sees what it is to say, so there is no colour or lightness to copy. The features are those of both, side by side. The
    classes of colour are 261 bins, published 313 (`ab_centres` says why). The loss is of places, not of features, so equal features are
    no collapse that it could tell. Colours have the soft targets of colourisation, without its weights.

    Differs: the halves are those of the experiment's encoder, whose last maps are interpolated to the places.
    """

    views = 1
    ab_centres: Tensor
    light_centres: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head = config, encoder, head
        self.register_buffer("ab_centres", ab_centres())
        middles = (torch.arange(config.light_bins) + 0.5) * (100 / config.light_bins)
        self.register_buffer("light_centres", middles[:, None])
        width = encoder.num_features // 2
        self.predict_colour = nn.Conv2d(width, len(self.ab_centres), 1)
        self.predict_light = nn.Conv2d(width, config.light_bins, 1)

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """L = L_1 + L_2, the cross-entropies of colours from lightness and of lightness from colours, means over all places."""
        colour_logits, light_logits = self._logits(views[0])
        values = F.adaptive_avg_pool2d(lab(self.encoder.pixels(views[0])), colour_logits.shape[2:])
        bins, shares = soft_bins(values[:, 1:], self.ab_centres)
        count = self.config.light_bins
        level = (values[:, 0] * (count / 100)).long().clamp(0, count - 1)
        by_colour = soft_cross_entropy(colour_logits, bins, shares).mean()
        by_light = F.cross_entropy(light_logits, level)
        right = [accuracy(colour_logits, bins[:, 0]), accuracy(light_logits, level)]
        metrics = {
            "loss_colour": by_colour.detach(),
            "loss_light": by_light.detach(),
            "pretext_accuracy": sum(right) / 2,
            "pretext_accuracy_colour": right[0],
            "pretext_accuracy_light": right[1],
        }
        return {"loss": by_colour + by_light, "memory": {}, "metrics": metrics}

    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Does nothing."""

    @torch.no_grad()
    def pictures(self, images: Tensor, index: Tensor) -> dict[str, Tensor]:
        """Normalised images BxCxHxW, their lightness, and with what each half says: Bx3xHxW in [0, 1].

        `colours` has the images' lightness in the colours that the first half says, `lightness` what the second says, without colour.
        """
        pixels = self.encoder.pixels(images)
        own = lab(pixels)[:, :1]
        colour_logits, light_logits = self._logits(images)
        size, temperature = images.shape[2:], self.config.temperature
        colours = guessed(colour_logits, self.ab_centres, temperature, size)
        lightness = guessed(light_logits, self.light_centres, temperature, size)
        said = {"colours": rgb(torch.cat([own, colours], 1)), "lightness": grey(lightness)}
        return {"input": pixels, "grey": grey(own), **said}

    def _logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Of the bins of colour, BxQxhxw, from lightness; and of those of lightness, BxKxhxw, from colours."""
        lightness, colours = self.encoder.planes(images)
        size = places(images.shape[2:], self.config.stride)
        return (
            logits_at(self.encoder.light, lightness, self.predict_colour, size),
            logits_at(self.encoder.colour, colours, self.predict_light, size),
        )
