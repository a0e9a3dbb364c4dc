"""Crops, greys and changes of colour of batches on the device, as torchvision's, each image with its own numbers.

B images, H x W pixels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

GREY = (0.2989, 0.587, 0.114)  # torchvision's weights


def crop_boxes(
    count: int, height: int, width: int, scale: list[float], ratio: list[float], generator: torch.Generator, whole: bool = True
) -> Tensor:
    """Boxes (top, left, height, width) in pixels, whole ones if `whole`, count x 4, distributed as torchvision's RandomResizedCrop.

    Ten tries for each, then the central crop of a permitted ratio.
    """
    tries = 10
    area = height * width * torch.empty(count, tries).uniform_(*scale, generator=generator)
    aspect = torch.empty(count, tries).uniform_(math.log(ratio[0]), math.log(ratio[1]), generator=generator).exp()
    w, h = (area * aspect).sqrt(), (area / aspect).sqrt()
    if whole:
        w, h = w.round(), h.round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    first = fits.int().argmax(1, keepdim=True)
    w, h = w.gather(1, first)[:, 0], h.gather(1, first)[:, 0]
    top = torch.rand(count, generator=generator) * (height - h + whole)
    left = torch.rand(count, generator=generator) * (width - w + whole)
    if whole:
        top, left = top.floor(), left.floor()
    none = ~fits.any(1)
    if none.any():
        whole = width / height
        central_w = round(height * ratio[1]) if whole > ratio[1] else width
        central_h = round(width / ratio[0]) if whole < ratio[0] else height
        values = ((height - central_h) // 2, (width - central_w) // 2, central_h, central_w)
        for column, value in zip((top, left, h, w), values, strict=True):
            column[none] = value
    return torch.stack([top, left, h, w], 1)


def crop_and_resize(images: Tensor, boxes: Tensor, size: int, flip: Tensor, whole: bool = True, mode: str = "bilinear") -> Tensor:
    """Each image's box (top, left, height, width), resized to size x size with bilinear or bicubic interpolation, flipped where asked."""
    height, width = images.shape[-2:]
    top, left, h, w = boxes.to(images.device, non_blocking=True).unbind(1)
    flip = flip.to(images.device, non_blocking=True)
    if whole:
        # No pixel beyond the crop is seen: places are kept between the centres of its first and last pixels. Differs with bicubic
        # interpolation, whose window of four pixels may see two beyond.
        edge = 0.5 if mode == "bilinear" else 0.0
        steps = (torch.arange(size, device=images.device) + 0.5) / size
        across = torch.where(flip[:, None], 1 - steps, steps)
        x = left[:, None] + torch.minimum(torch.clamp(across * w[:, None], min=edge), w[:, None] - edge)
        y = top[:, None] + torch.minimum(torch.clamp(steps * h[:, None], min=edge), h[:, None] - edge)
        grid = torch.empty(len(images), size, size, 2, device=images.device)
        grid[..., 0] = (2 * x / width - 1)[:, None, :]
        grid[..., 1] = (2 * y / height - 1)[:, :, None]
        return F.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)
    theta = torch.zeros(len(images), 2, 3, device=images.device)
    theta[:, 0, 0] = torch.where(flip, -w, w) / width
    theta[:, 1, 1] = h / height
    theta[:, 0, 2] = (2 * left + w) / width - 1
    theta[:, 1, 2] = (2 * top + h) / height - 1
    grid = F.affine_grid(theta, [len(images), images.shape[1], size, size], align_corners=False)
    return F.grid_sample(images, grid, mode=mode, padding_mode="reflection", align_corners=False)


def to_grey(images: Tensor) -> Tensor:
    """The luminance of Bx3xHxW, Bx1xHxW."""
    red, green, blue = images.unbind(1)
    return (red * GREY[0]).add_(green * GREY[1]).add_(blue * GREY[2])[:, None]


# The adjustments write to their images, Bx3xHxW, and take a number for each.
def brightness(images: Tensor, factor: Tensor) -> None:
    images.mul_(factor[:, None, None, None]).clamp_(0, 1)


def contrast(images: Tensor, factor: Tensor) -> None:
    mean = to_grey(images).mean((1, 2, 3), keepdim=True)
    torch.lerp(mean.expand_as(images), images, factor[:, None, None, None], out=images).clamp_(0, 1)


def saturation(images: Tensor, factor: Tensor) -> None:
    grey, factor = to_grey(images), factor[:, None, None, None]
    images.mul_(factor).add_(grey.mul_(1 - factor)).clamp_(0, 1)


def hue(images: Tensor, shift: Tensor) -> None:
    """Turns the hue by `shift` (1: all around) and keeps value and saturation: HSV and back in one, without its divisions by the value.

    With the hue h in turns, value v and chroma c, a channel is v - c * clamp(2 - 6 |t - round(t)|, 0, 1) with t = h + n, where n is
    1/2, 1/6, -1/6 for red, green, blue. Masks are signs: on a CPU that is several times as fast as `where`.
    """
    red, green, blue = images.unbind(1)
    value = images.amax(1)
    chroma = value - images.amin(1)
    inverse = (6 * chroma).clamp_min_(1e-8).reciprocal_()
    of_blue = (red - green).mul_(inverse).add_(2 / 3)
    of_green = (blue - red).mul_(inverse).add_(1 / 3)
    hue = torch.lerp(of_green, of_blue, (value - green).sign_())
    hue = torch.lerp((green - blue).mul_(inverse), hue, (value - red).sign_()).add_(shift[:, None, None])
    for channel, turn in zip(images.unbind(1), (1 / 2, 1 / 6, -1 / 6), strict=True):
        torch.add(hue, turn, out=channel)
    part = torch.rsub(images.sub_(images.round()).abs_(), 2, alpha=6).clamp_(0, 1)
    torch.addcmul(value[:, None], part, chroma[:, None], value=-1, out=images)


def blur_width(size: int) -> int:
    """The pixels of the blur's window: 23 at 224 px, as in SimCLR, a tenth of the side, odd."""
    return max(3, size // 10 // 2 * 2 + 1)


ADJUSTMENTS = (brightness, contrast, saturation, hue)
