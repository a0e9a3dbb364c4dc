"""Patches of images: one of each cell of a grid, all of a sliding window, or all that tile it. B images, C channels, H x W pixels, L
tiles."""

import math

import torch
from torch import Tensor


def grid_patches(images: Tensor, offsets: Tensor, share: float, side: int = 3) -> Tensor:
    """A crop of each of the `side` x `side` cells of each image (BxCxHxW), image by image and row by row: (B side^2) x C x h x w.

    `share` is the side of a crop as a share of the cell's. `offsets` ((B side^2) x 2) are random integers: their remainders by the
    number of possible positions are the crop's top and left. Pixels at the right and lower edge that exceed equal cells are left out.
    """
    height, width = images.shape[2] // side, images.shape[3] // side
    rows, columns = max(1, round(share * height)), max(1, round(share * width))
    whole = images[:, :, : side * height, : side * width].unflatten(3, (side, width)).unflatten(2, (side, height))
    whole = whole.permute(0, 2, 4, 1, 3, 5).flatten(0, 2)
    top = offsets[:, :1] % (height - rows + 1) + torch.arange(rows, device=images.device)
    left = offsets[:, 1:] % (width - columns + 1) + torch.arange(columns, device=images.device)
    number = torch.arange(len(whole), device=images.device)[:, None, None]
    return whole[number, :, top[:, :, None], left[:, None, :]].permute(0, 3, 1, 2)


def window_patches(images: Tensor, size: int, stride: int) -> Tensor:
    """All windows of `size` pixels a side, `stride` pixels apart: B x rows x columns x C x size x size."""
    return images.unfold(2, size, stride).unfold(3, size, stride).permute(0, 2, 3, 1, 4, 5)


def patchify(images: Tensor, size: int) -> Tensor:
    """Images BxCxHxW as the numbers of their patches of `size` pixels a side, row by row: BxLx(size size C), each by row, column, channel."""
    count, channels, height, width = images.shape
    parts = images.view(count, channels, height // size, size, width // size, size).permute(0, 2, 4, 3, 5, 1)
    return parts.reshape(count, -1, size * size * channels)


def unpatchify(patches: Tensor, size: int, channels: int = 3) -> Tensor:
    """Square images BxCxHxH of the numbers of their patches: what `patchify` undoes."""
    side = math.isqrt(patches.shape[1])
    parts = patches.view(len(patches), side, side, size, size, channels).permute(0, 5, 1, 3, 2, 4)
    return parts.reshape(len(patches), channels, side * size, side * size)


def standardised(patches: Tensor) -> Tensor:
    """Each channel of each patch (PxCxhxw) with mean 0 and standard deviation 1, so that its level does not tell where it is from.

    A channel without any contrast becomes 0.
    """
    deviation, mean = torch.std_mean(patches, (2, 3), correction=0, keepdim=True)
    return (patches - mean) / deviation.clamp(min=1e-5)


def shifted_channels(patches: Tensor, shifts: Tensor) -> Tensor:
    """Each channel of each patch (PxCxhxw) moved by its own whole pixels up and to the left (PxCx2); the edge's pixels are repeated."""
    height, width = patches.shape[2:]
    rows = (torch.arange(height, device=patches.device) + shifts[..., :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=patches.device) + shifts[..., 1:]).clamp(0, width - 1)
    return patches.gather(2, rows[..., None].expand_as(patches)).gather(3, columns[:, :, None].expand_as(patches))
