"""Colours as CIE Lab (D65): lightness L from 0 to 100, green to red a, blue to yellow b. B images, H x W pixels."""

import torch
from torch import Tensor

# The least and the greatest a and b of sRGB, by which CMC (Tian et al., ECCV 2020) scales them.
A_RANGE, B_RANGE = (-86.183, 98.233), (-107.857, 94.478)


def lab(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] (Bx3xHxW; red, green, blue of sRGB) as L, a and b, Bx3xHxW in 32 bits."""
    from kornia.color import rgb_to_lab

    with torch.autocast(pixels.device.type, enabled=False):
        return rgb_to_lab(pixels.float())


def lab_scaled(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] (Bx3xHxW) as L, a and b, each from -1 to 1."""
    values = lab(pixels)
    least = values.new_tensor([0.0, A_RANGE[0], B_RANGE[0]])[:, None, None]
    most = values.new_tensor([100.0, A_RANGE[1], B_RANGE[1]])[:, None, None]
    return 2 * (values - least) / (most - least) - 1
