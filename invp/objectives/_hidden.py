"""Which patches of an image are hidden, as functions of seed, epoch and image. B images, L = side x side patches, n blocks."""

import math

import torch
from torch import Tensor

from invp.core.selection import hashed_indices, hashed_uniform

PATCH_STREAM = 1 << 39  # keeps these draws apart from others of the same seed
BLOCKS = 16  # at most, of an image: they cover half of it all but surely
RATIO = 0.3  # a block's height over its width is from this to its inverse


def hidden_anywhere(index: Tensor, length: int, *, seed: int, epoch: int) -> Tensor:
    """A random order of each image's patches, BxL: the first ones are seen, the others hidden (MAE)."""
    return hashed_indices(index, length, 1 << 62, seed=seed + PATCH_STREAM, epoch=epoch).argsort(1)


def hidden_blocks(index: Tensor, side: int, share: tuple[float, float], chance: float, *, seed: int, epoch: int) -> Tensor:
    """The patches in blocks at random places, BxL: of an image, with this chance, a share of its patches from and to (iBOT, BEiT).

    Blocks are added until the share is reached, and the last is cut.
    """
    uniform = hashed_uniform(index, 3 + 4 * BLOCKS, seed + PATCH_STREAM, epoch).float()
    length = side * side
    count = (length * (share[0] + (share[1] - share[0]) * uniform[:, 1])).round() * (uniform[:, 0] < chance)
    area, aspect, top, left = uniform[:, 3:].unflatten(1, (4, BLOCKS)).unbind(1)  # Bxn each
    least = float((side // 3) ** 2)
    area = least + (count[:, None] - least).clamp(min=0) * area
    aspect = ((2 * aspect - 1) * -math.log(RATIO)).exp()
    rows, columns = ((area * a).sqrt().round().clamp(1, side) for a in (aspect, 1 / aspect))
    places = torch.arange(side, device=index.device)
    inside = [
        (places >= start[..., None]) & (places < (start + extent)[..., None])  # Bxnxside
        for start, extent in (((top * (side - rows + 1)).floor(), rows), ((left * (side - columns + 1)).floor(), columns))
    ]
    covered = (inside[0][..., None] & inside[1][..., None, :]).flatten(2)  # BxnxL
    first = torch.where(covered, torch.arange(BLOCKS, device=index.device)[:, None], BLOCKS).amin(1)  # the block that hides a patch
    place = torch.arange(length, device=index.device)
    place = torch.where(uniform[:, 2:3] < 0.5, place, length - 1 - place)  # the last block is cut from either end
    return (first * length + place).argsort(1).argsort(1) < count[:, None]
