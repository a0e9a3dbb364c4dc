"""Batched augmentation on the device: each sample has its own parameters, drawn from (seed, epoch, step, view).

Parameters follow torchvision's RandomResizedCrop, ColorJitter, RandomGrayscale, GaussianBlur and RandomHorizontalFlip. They are drawn
on the CPU for the whole batch and then cut to the rows of this process, so that the number of processes changes nothing.
B images, H x W pixels.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from kornia.filters import gaussian_blur2d
from torch import Tensor

from invp.core.colour import per_channel
from invp.core.selection import mixed_seed
from invp.plumbing.sections import Augmentation

SOLARIZED_FROM = 128  # the level, of 255, from which on solarisation turns levels round
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
def _brightness(images: Tensor, factor: Tensor) -> None:
    images.mul_(factor[:, None, None, None]).clamp_(0, 1)


def _contrast(images: Tensor, factor: Tensor) -> None:
    mean = to_grey(images).mean((1, 2, 3), keepdim=True)
    torch.lerp(mean.expand_as(images), images, factor[:, None, None, None], out=images).clamp_(0, 1)


def _saturation(images: Tensor, factor: Tensor) -> None:
    grey, factor = to_grey(images), factor[:, None, None, None]
    images.mul_(factor).add_(grey.mul_(1 - factor)).clamp_(0, 1)


def _hue(images: Tensor, shift: Tensor) -> None:
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
    torch.add(hue[:, None], per_channel([1 / 2, 1 / 6, -1 / 6], images), out=images)
    part = torch.rsub(images.sub_(images.round()).abs_(), 2, alpha=6).clamp_(0, 1)
    torch.addcmul(value[:, None], part, chroma[:, None], value=-1, out=images)


def blur_width(size: int) -> int:
    """The pixels of the blur's window: 23 at 224 px, as in SimCLR, a tenth of the side, odd."""
    return max(3, size // 10 // 2 * 2 + 1)


ADJUSTMENTS = (_brightness, _contrast, _saturation, _hue)


@dataclass
class Draws:
    """What was drawn for B images, on the CPU: `flip` and `grey` (bool), whether and how colours are changed, and how much is blurred.

    `jittered` (bool), `factors` Bx4 and `order` Bx4 of the adjustments are None without colour jitter, `blurred` (bool) and `sigma`
    without blur, `solarized` (bool) without solarisation. `boxes` are the crops, Bx4. What decides about shapes is an array of NumPy: a
    device is not asked for it.
    """

    boxes: Tensor
    flip: np.ndarray
    grey: np.ndarray
    jittered: np.ndarray | None = None
    factors: Tensor | None = None
    order: np.ndarray | None = None
    blurred: np.ndarray | None = None
    sigma: Tensor | None = None
    solarized: np.ndarray | None = None

    def __getitem__(self, rows: slice) -> "Draws":
        return Draws(*(None if value is None else value[rows] for value in vars(self).values()))


class Augment:
    """The augmentation that the options describe, as a function of a batch and a key."""

    def __init__(self, options: Augmentation):
        self.options = options

    def __call__(self, images: Tensor, key: tuple[int, ...], rows: slice, global_batch: int) -> Tensor:
        """Augments uint8 images Bx(1|3)xHxW, the `rows` of a global batch, to normalised floats Bx3xsizexsize.

        `key` is (seed, epoch, step, view); equal keys give equal parameters.
        """
        return self.applied(images, self.drawn(key, rows, global_batch, *images.shape[-2:]))

    def drawn(self, key: tuple[int, ...], rows: slice, global_batch: int, height: int, width: int) -> Draws:
        """All parameters of the `rows` of a global batch of images of this size, in a few calls for the whole batch."""
        options = self.options
        generator = torch.Generator().manual_seed(mixed_seed(*key))
        boxes = crop_boxes(global_batch, height, width, options.crop_scale, options.crop_ratio, generator, options.whole_pixels)
        draws = torch.rand(global_batch, 4, generator=generator)
        flip = (draws[:, 0] < 0.5) if options.flip else torch.zeros(global_batch, dtype=torch.bool)
        result = Draws(boxes, flip.numpy(), (draws[:, 2] < options.grayscale).numpy())
        if options.jitter_probability and any(options.jitter):
            strengths = options.jitter
            factors = [torch.empty(global_batch).uniform_(max(0.0, 1 - s), 1 + s, generator=generator) for s in strengths[:3]]
            hue = torch.empty(global_batch).uniform_(-strengths[3], strengths[3], generator=generator)
            result.factors = torch.stack([*factors, hue], 1)
            result.order = torch.rand(global_batch, 4, generator=generator).argsort(1).numpy()
            result.jittered = (draws[:, 1] < options.jitter_probability).numpy()
        if options.blur_probability:
            result.sigma = torch.empty(global_batch).uniform_(*options.blur_sigma, generator=generator)
            result.blurred = (draws[:, 3] < options.blur_probability).numpy()
        if options.solarize:
            result.solarized = (torch.rand(global_batch, generator=generator) < options.solarize).numpy()
        return result[rows]

    def applied(self, images: Tensor, draws: Draws) -> Tensor:
        """The images Bx(1|3)xHxW (uint8) with what was drawn for them, normalised floats Bx3xsizexsize on their device."""
        options = self.options
        result = images.float().div_(255)
        if options.crop_scale == [1.0, 1.0] and images.shape[-2:] == (options.size, options.size):  # cropped where it was decoded
            index = chosen_rows(draws.flip, result.device)
            result[index] = result[index].flip(-1)
        else:
            flip = torch.from_numpy(draws.flip)
            result = crop_and_resize(result, draws.boxes, options.size, flip, options.whole_pixels, options.interpolation)
            result = result.clamp_(0, 1) if options.interpolation == "bicubic" else result
        # Fresh memory, which all that follows may write to.
        result = result.expand(-1, 3, -1, -1).contiguous() if result.shape[1] == 1 else result
        grey = chosen_rows(draws.grey, result.device)
        if options.grayscale_first:
            result[grey] = to_grey(result[grey]).expand(-1, 3, -1, -1)
        if draws.jittered is not None:
            result = self._jittered(result, draws)
        if not options.grayscale_first:
            result[grey] = to_grey(result[grey]).expand(-1, 3, -1, -1)
        if draws.blurred is not None:
            result = self._blurred(result, draws.blurred, draws.sigma)
        if draws.solarized is not None:
            index = chosen_rows(draws.solarized, result.device)
            chosen = result[index]
            result[index] = torch.where(chosen >= SOLARIZED_FROM / 255, 1 - chosen, chosen)
        mean, std = (per_channel(values, result) for values in (options.mean, options.std))
        return result.sub_(mean).div_(std)

    def after_crop(self) -> Augmentation:
        """The options of what is left to do for images that were cropped where they were decoded."""
        return replace(self.options, crop_scale=[1.0, 1.0], crop_ratio=[1.0, 1.0])

    def _jittered(self, images: Tensor, draws: Draws) -> Tensor:
        """Colour jitter, each sample with its own factors and its own order of the four adjustments."""
        strengths, order, device = self.options.jitter, draws.order.copy(), images.device
        order[~draws.jittered] = len(ADJUSTMENTS)  # nothing
        where = np.arange(len(order))  # the rows in the order in which their images lie
        for turn in range(4):
            number = order[where, turn]
            sort = number.argsort(kind="stable")
            # On a CPU `index_select` copies whole images, which indexing does not: it is several times as fast.
            images, where, start = images.index_select(0, torch.from_numpy(sort).to(device, non_blocking=True)), where[sort], 0
            own = draws.factors[torch.from_numpy(where)].to(device, non_blocking=True)
            for kind, length in enumerate(np.bincount(number, minlength=5)[:4].tolist()):
                if strengths[kind] and length:
                    ADJUSTMENTS[kind](images[start : start + length], own[start : start + length, kind])
                start += length
        return images.index_select(0, torch.from_numpy(where.argsort()).to(device, non_blocking=True))

    def _blurred(self, images: Tensor, chosen: np.ndarray, sigma: Tensor) -> Tensor:
        if not chosen.any():
            return images
        index, sigma = chosen_rows(chosen, images.device), sigma[chosen_rows(chosen, sigma.device)]
        width = blur_width(self.options.size)
        # kornia looks at sigma before it copies it: on the CPU, where it lies, nothing is waited for.
        images[index] = gaussian_blur2d(images[index], (width, width), torch.stack([sigma, sigma], 1))
        return images


def chosen_rows(mask: np.ndarray, device: torch.device) -> Tensor:
    """The numbers of the rows where a mask is true; on the device, which is not waited for."""
    return torch.from_numpy(np.flatnonzero(mask)).to(device, non_blocking=True)


def normalised(images: Tensor, mean: list[float], std: list[float]) -> Tensor:
    """Images in [0, 1] (Bx3xHxW) minus the mean, over the standard deviation, by channel."""
    return (images - per_channel(mean, images)) / per_channel(std, images)
