"""Context encoder (Pathak et al., CVPR 2016): an image with a hole, which is filled from what lies around it.

B batch, H x W pixels, n blocks.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from invp.core.selection import hashed_indices
from invp.models.decoders import GROUPS, sides_to
from invp.objectives._decoding import build_decoder
from invp.objectives._options import require, steady_within_an_epoch
from invp.plumbing.options import option

BLOCK_STREAM = 1 << 38  # keeps the places of the blocks apart from other draws of the same seed


@dataclass
class Config:
    """Options of the context encoder."""

    hole_share: float = option(
        0.5, "the side of the hole as a share of the image's; blocks have at most its area together", above=0, below=1
    )
    num_blocks: int = option(0, "square blocks at random places, which may overlap; 0: one hole in the centre", least=0)
    overlap: int = option(0, "pixels inside the edge of a hole that the encoder sees all the same", least=0)
    overlap_weight: float = option(10.0, "of the error at these pixels; 1 everywhere else in the hole", above=0)
    adversary: float = option(0.0, "lambda of the adversarial term; the reconstruction has 1 - lambda; 0: none", least=0, below=1)
    decoder_width: int = option(
        16, "channels of the decoder at the image's size, twice as many at each half of it; eights", least=8
    )


class Discriminator(nn.Module):
    """Whether images Bx3xHxW are true: strided convolutions down to 4 pixels, and a number for each image (B)."""

    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        sides = sides_to(size)
        layers: list[nn.Module] = []
        for place in range(len(sides) - 1):
            less, more = width * 2 ** (place - 1) if place else 3, width * 2**place
            layers += [nn.Conv2d(less, more, 3, stride=2, padding=1, bias=False), nn.GroupNorm(GROUPS, more), nn.LeakyReLU(0.2)]
        channels = width * 2 ** (len(sides) - 2) if len(sides) > 1 else 3
        self.layers = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * sides[0] ** 2, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(images).squeeze(1)


steady = steady_within_an_epoch


class Objective(nn.Module):
    """The context encoder with its `decoder` and, if it is asked for, a `discriminator`.

    The hole is filled with the mean colour, which is 0 of a normalised image. Batch statistics are those of images with holes, and
    evaluations show whole ones. Differs: the decoder gives the whole image, of which the hole counts, so that random blocks have the same
    decoder, and it makes the hole from the head's output; there are no free shapes.
    Differs: the discriminator is given the hole on black, at its place, and learns at the same rate as all else.
    """

    views = 1

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head, self.seed = config, encoder, head, seed
        self.size = encoder.image_size
        self.side = max(1, round(config.hole_share * self.size / max(1, config.num_blocks) ** 0.5))
        require(2 * config.overlap < self.side, config, "overlap", f"less than half of a hole's side, which is {self.side} pixels")
        self.decoder = build_decoder(config, encoder, head)
        if config.adversary:
            self.discriminator = Discriminator(self.size, config.decoder_width)

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing."""

    def holes(self, index: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """What is to be filled, and the part of it that the encoder does not see: two masks Bx1xHxW."""
        count, side, free = self.config.num_blocks, self.side, self.size - self.side
        if count:
            corners = hashed_indices(index, 2 * count, free + 1, seed=self.seed + BLOCK_STREAM, epoch=epoch).view(-1, count, 2, 1)
        else:
            corners = torch.full((len(index), 1, 2, 1), free // 2, device=index.device)
        masks = []
        for margin in (0, self.config.overlap):
            place = torch.arange(self.size, device=index.device)
            inside = (place >= corners + margin) & (place < corners + side - margin)  # Bxnx2xsize: of rows and of columns
            masks.append((inside[:, :, 0, :, None] & inside[:, :, 1, None, :]).any(1, keepdim=True))
        return masks[0], masks[1]

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """(1 - lambda) L_rec + lambda L_adv, and the discriminator's own loss.

        L_rec is the mean over images of the mean squared error of a hole's pixels.
        """
        hole, hidden = self.holes(index, epoch)
        target = self.encoder.pixels(views[0])
        output = self.decoder(self.head(self.encoder(views[0].masked_fill(hidden, 0.0))))
        squared = hole * (output - target).square().mean(1, keepdim=True)
        weights = torch.where(hidden, 1.0, self.config.overlap_weight)
        pixels = hole.sum((1, 2, 3))
        loss = ((weights * squared).sum((1, 2, 3)) / pixels).mean()
        metrics = {"pretext_error": (squared.sum((1, 2, 3)) / pixels).mean().detach()}
        if self.config.adversary:
            fooled, told = self._adversarial(hole * target, hole * output)
            loss = (1 - self.config.adversary) * loss + self.config.adversary * fooled + told
            metrics |= {"loss_adversary": fooled.detach(), "loss_discriminator": told.detach()}
        return {"loss": loss, "memory": {}, "metrics": metrics}

    def _adversarial(self, true: Tensor, made: Tensor) -> tuple[Tensor, Tensor]:
        """How well the decoder fools the discriminator, whose weights get no gradient of it; and the discriminator's loss, of which the
        decoder gets none. So one optimiser and one backward pass serve both."""
        fixed = {name: parameter.detach() for name, parameter in self.discriminator.named_parameters()}
        fooled = F.softplus(-functional_call(self.discriminator, fixed, (made,))).mean()
        told = F.softplus(-self.discriminator(true)).mean() + F.softplus(self.discriminator(made.detach())).mean()
        return fooled, told

    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Does nothing."""

    @torch.no_grad()
    def pictures(self, images: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The images (normalised, Bx3xHxW), what the encoder sees of them, and the holes filled, as pixels in [0, 1]."""
        hole, hidden = self.holes(index, 0)
        seen, pixels = images.masked_fill(hidden, 0.0), self.encoder.pixels(images)
        filled = torch.where(hole, self.decoder(self.head(self.encoder(seen))).clamp(0, 1), pixels)
        return {"input": pixels, "hole": self.encoder.pixels(seen), "reconstruction": filled}
