"""Colours as CIE Lab (D65): lightness L from 0 to 100, green to red a, blue to yellow b; and classes of colour, bins of a and b.

B images, H x W pixels or places, Q bins, n nearest bins.
"""

from functools import cache

import torch
from torch import Tensor

# The least and the greatest a and b of sRGB, by which CMC (Tian et al., ECCV 2020) scales them.
A_RANGE, B_RANGE = (-86.183, 98.233), (-107.857, 94.478)
BIN_SIDE = 10  # units of a and b
LEVELS = 86  # of red, green and blue, every third of 256, from which the bins are found; all 256 give the same


def per_channel(values: list[float], images: Tensor) -> Tensor:
    """A number for each channel of images (Bx3xHxW), 3x1x1 on their device, which is not waited for."""
    return torch.tensor(values, dtype=images.dtype).to(images.device, non_blocking=True)[:, None, None]


def lab(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] (Bx3xHxW; red, green, blue of sRGB) as L, a and b, Bx3xHxW in 32 bits."""
    from kornia.color import rgb_to_lab

    with torch.autocast(pixels.device.type, enabled=False):
        return rgb_to_lab(pixels.float())


def lab_scaled(pixels: Tensor) -> Tensor:
    """Pixels in [0, 1] (Bx3xHxW) as L, a and b, each from -1 to 1."""
    values = lab(pixels)
    least = per_channel([0.0, A_RANGE[0], B_RANGE[0]], values)
    most = per_channel([100.0, A_RANGE[1], B_RANGE[1]], values)
    return 2 * (values - least) / (most - least) - 1


def rgb(values: Tensor) -> Tensor:
    """L, a and b (Bx3xHxW) as pixels in [0, 1]; what sRGB cannot show is clamped."""
    from kornia.color import lab_to_rgb

    with torch.autocast(values.device.type, enabled=False):
        return lab_to_rgb(values.float()).clamp(0, 1)


@cache
def _touched_bins() -> Tensor:
    from kornia.color import rgb_to_lab

    level = torch.linspace(0, 1, LEVELS, dtype=torch.float64)
    face = torch.cartesian_prod(level, level)  # a line of constant a and b leaves sRGB through its surface, which is six faces
    faces = [torch.cat([torch.full_like(face[:, :1], end), face], 1).roll(turn, 1) for end in (0, 1) for turn in range(3)]
    ab = rgb_to_lab(torch.cat(faces).T[:, :, None])[1:, :, 0].T
    return BIN_SIDE * (ab / BIN_SIDE).round().long().unique(dim=0).float()


def ab_centres() -> Tensor:
    """The centres of the bins of a and b, Qx2: squares of side 10 around multiples of 10 that hold a colour of 8-bit sRGB.

    Constants alone fix them. There are 261 bins (a 262nd has colours between the 256 levels alone); Zhang et al. (ECCV 2016) publish a table of 313, which no rule that we know gives.
    """
    return _touched_bins().clone()


def soft_bins(ab: Tensor, centres: Tensor, count: int = 10, sigma: float = 5.0) -> tuple[Tensor, Tensor]:
    """The `count` bins nearest to each a and b (Bx2xHxW), nearest first, and their shares: BxnxHxW both.

    Shares fall with the distance d to the centre (Qx2) as exp(-d^2 / (2 sigma^2)) and sum to 1: Zhang et al., section 2.1, "soft
    encoding", with the values of the authors' code.
    """
    with torch.autocast(ab.device.type, enabled=False):
        points = ab.movedim(1, 3).flatten(1, 2).to(centres.dtype)  # B x HW x 2
        distance = torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist")
        near, bins = distance.topk(count, largest=False)
        shares = torch.softmax(-near.square() / (2 * sigma**2), 2)
    return tuple(table.mT.unflatten(2, ab.shape[2:]) for table in (bins, shares))


def soft_cross_entropy(logits: Tensor, bins: Tensor, shares: Tensor) -> Tensor:
    """-sum_q Z_q log softmax(logits)_q at each place, BxHxW: Z has `shares` in `bins` (BxnxHxW), and `logits` are BxQxHxW."""
    return -(torch.log_softmax(logits, 1).gather(1, bins) * shares).sum(1)


def class_weights(shares: Tensor, uniform_share: float) -> Tensor:
    """The weight of each bin, Q: w_q = u_q / sum(p u) with u_q = 1 / ((1 - lambda) p_q + lambda / Q), so that sum(p w) = 1.

    `shares` is p, Q, which sum to 1; `uniform_share` is lambda. Source: Zhang et al., section 2.2, equation 4.
    """
    raised = 1 / ((1 - uniform_share) * shares + uniform_share / len(shares))
    return raised / (shares * raised).sum()


def annealed_mean(logits: Tensor, centres: Tensor, temperature: float) -> Tensor:
    """sum_q c_q softmax(log z / T)_q with z the softmax of `logits` (BxQxHxW) and c the `centres` (QxC): BxCxHxW.

    T = 1 is the mean; T towards 0 is the mode. Source: Zhang et al., section 2.3, equation 5.
    """
    return torch.einsum("bqhw,qc->bchw", torch.softmax(logits / temperature, 1), centres)
