"""What objectives that predict classes of colour share. B images, C channels, H x W pixels, h x w places, Q bins."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.colour import annealed_mean, rgb


def places(size: torch.Size, stride: int) -> tuple[int, int]:
    """How many places, h and w, there are in so many pixels H and W: one in each `stride` a side, and at least one."""
    return max(1, size[0] // stride), max(1, size[1] // stride)


def logits_at(encoder: nn.Module, sees: Tensor, predict: nn.Module, size: tuple[int, int]) -> Tensor:
    """The logits BxQxhxw: `predict`, a 1x1 convolution, of the last maps of an encoder that sees BxCxHxW, interpolated to h x w."""
    return F.interpolate(predict(encoder.blocks(sees)[-1]), size, mode="bilinear", align_corners=False)


def guessed(logits: Tensor, centres: Tensor, temperature: float, size: torch.Size) -> Tensor:
    """The annealed mean of the bins' `centres` (QxC) under the logits (BxQxhxw), interpolated to HxW: BxCxHxW."""
    return F.interpolate(annealed_mean(logits, centres, temperature), size, mode="bilinear", align_corners=False)


def grey(lightness: Tensor) -> Tensor:
    """Lightness Bx1xHxW as pixels Bx3xHxW without colour."""
    return rgb(F.pad(lightness, (0, 0, 0, 0, 0, 2)))


def accuracy(logits: Tensor, bins: Tensor) -> Tensor:
    """The share of places, in %, where the largest of the logits (BxQxhxw) is that of the bin (Bxhxw)."""
    return 100 * (logits.detach().argmax(1) == bins).float().mean()
