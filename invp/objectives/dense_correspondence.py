"""Dense correspondence (Dense Object Nets, Florence et al., CoRL 2018): a point keeps its descriptor when the picture is warped.

B images, P points of an image, H x W pixels, h x w places of a map, D dimensions of a descriptor.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.selection import hashed_uniform
from invp.data.adjust import to_grey
from invp.objectives._options import require, steady_within_an_epoch
from invp.plumbing.options import option

WARP_STREAM, POINT_STREAM = 6 << 33, 7 << 33  # keep the draws apart from others of the same seed
HEAD = False  # descriptors are made of the encoder's maps


@dataclass
class Config:
    """Options of dense correspondence; dimensions and margin are the authors'."""

    block: str = option("", "the block whose map has the descriptors; empty: the last; blocks behind another one are not trained")
    dimensions: int = option(3, "D of a descriptor, which has no fixed length", least=1)
    margin: float = option(0.5, "the distance from which on points that are no match cost nothing", above=0)
    num_points: int = option(128, "P drawn of each image; each is compared with all of them", least=2)
    apart: float = option(0.15, "how far from its match a point is no match, as a share of the picture's side", above=0, below=1)
    rotation: float = option(30.0, "the warp turns by up to so many degrees", least=0, most=180)
    scale: float = option(1.5, "it enlarges or shrinks by up to this factor", least=1)
    shift: float = option(0.2, "it shifts by up to this share of the side", least=0, below=1)
    gain: float = option(0.4, "the warped picture's pixels are multiplied by 1 - this to 1 + this", least=0, below=1)
    grey: float = option(0.2, "the probability that the warped picture loses its colours", least=0, most=1)


steady = steady_within_an_epoch


class Objective(nn.Module):
    """Dense correspondence with its `descriptor`, a 1 x 1 convolution of a block's map. It has no memory.

    The second picture is the first one warped, so that every match is exact. The gain and the lost colours keep the level of a pixel
    from being its descriptor.
    Differs: a warp in place of another view of a scene whose depth is known; points lie anywhere and not half on an object; the points that
    are no match are the other points' matches; in all, each image has the mean over its own pairs, as a pair of pictures is the authors'
    batch.
    """

    views = 1

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        names = encoder.block_names
        require(config.block in ("", *names), config, "block", f"one of {', '.join(names)}, or empty")
        self.config, self.encoder, self.head, self.seed = config, encoder, head, seed
        self.block = names.index(config.block) if config.block else len(names) - 1
        encoder.freeze_after(self.block)
        self.descriptor = nn.Conv2d(self._channels(), config.dimensions, 1)

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean over images of 1/|M| sum ||d_a - d_b||^2 over matches + 1/|hard| sum max(0, m - ||d_a - d_b||)^2 over the others."""
        theta, second = self.warped(views[0], index, epoch)
        first_maps, second_maps = self.maps(torch.cat([views[0], second])).chunk(2)
        points = 2 * hashed_uniform(index, 2 * self.config.num_points, self.seed + POINT_STREAM, epoch).to(theta.dtype) - 1
        points = points.view(len(index), -1, 2)  # in the second picture
        matches = points @ theta[:, :, :2].mT + theta[:, None, :, 2]  # BxPx2, in the first
        inside = (matches.abs() <= 1).all(2)
        one, other = at_points(first_maps, matches), at_points(second_maps, points)
        near, far, found = pair_terms(one, other, points, inside, self.config)
        loss = (near + far).mean()
        metrics = {
            "loss_matches": near.detach().mean(),
            "loss_others": far.detach().mean(),
            "pretext_accuracy": 100 * found.mean(),
            "points_inside": inside.to(loss.dtype).mean(),
        }
        return {"loss": loss, "memory": {}, "metrics": metrics}

    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Does nothing."""

    def maps(self, images: Tensor) -> Tensor:
        """The descriptors of all places of the block's map: BxDxhxw."""
        return self.descriptor(self.encoder.blocks(images)[self.block])

    def warped(self, images: Tensor, index: Tensor, epoch: int) -> tuple[Tensor, Tensor]:
        """The map from coordinates of the second picture to the first's (Bx2x3, both from -1 to 1), and the second picture.

        What comes from outside of the first picture is its normalised zero.
        """
        config = self.config
        draws = hashed_uniform(index, 6, self.seed + WARP_STREAM, epoch).to(images.dtype)
        angle, scale, right, down, gain = (2 * draws[:, :5] - 1).unbind(1)
        angle, scale = angle * math.radians(config.rotation), torch.exp(scale * math.log(config.scale))
        cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
        rows = torch.stack([cosine, -sine, 2 * config.shift * right, sine, cosine, 2 * config.shift * down], 1)
        theta = rows.view(-1, 2, 3)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        second = F.grid_sample(images, grid, align_corners=False)
        pixels = self.encoder.pixels(second) * (1 + config.gain * gain)[:, None, None, None]
        pixels = torch.where((draws[:, 5] < config.grey)[:, None, None, None], to_grey(pixels), pixels)
        if config.gain or config.grey:
            second = (pixels.clamp(0, 1) - self.encoder.mean) / self.encoder.std
        return theta, second

    @torch.no_grad()
    def _channels(self) -> int:
        """The channels of the block's map."""
        training = self.encoder.training
        channels = self.encoder.eval().blocks(torch.zeros(1, 3, 32, 32))[self.block].shape[1]
        self.encoder.train(training)
        return channels


def at_points(maps: Tensor, points: Tensor) -> Tensor:
    """Maps BxDxhxw, drawn out to any size by bilinear interpolation, at points BxPx2 (right and down, from -1 to 1): BxPxD."""
    return F.grid_sample(maps, points[:, :, None], padding_mode="border", align_corners=False)[..., 0].mT


def pair_terms(one: Tensor, other: Tensor, points: Tensor, inside: Tensor, config: Config) -> tuple[Tensor, Tensor, Tensor]:
    """Of each image: the two terms of its loss, and the share of its points whose match has the nearest descriptor of all points.

    Descriptors `one` and `other` BxPxD, of the first and the second picture; `points` BxPx2 of the second. Points that are not `inside`
    the first picture (BxP) count nowhere.
    """
    count = inside.sum(1).clamp(min=1)
    near = ((one - other).square().sum(2) * inside).sum(1) / count
    distance = torch.cdist(one, other, compute_mode="donot_use_mm_for_euclid_dist")
    side = 2 * config.apart  # coordinates run from -1 to 1
    others = inside[:, :, None] & inside[:, None, :] & (torch.cdist(points, points) > side)
    hinge = (config.margin - distance).clamp(min=0) * others
    hard = (hinge > 0).sum((1, 2)).clamp(min=1)
    far = hinge.square().sum((1, 2)) / hard
    nearest = distance.detach().masked_fill(~inside[:, None, :], torch.inf).argmin(2)
    own = torch.arange(one.shape[1], device=one.device)
    return near, far, ((nearest == own) & inside).sum(1) / count
