"""Batched augmentation on the device: each sample has its own parameters, drawn from (seed, epoch, step, view).

Parameters follow torchvision's RandomResizedCrop, ColorJitter, RandomGrayscale, GaussianBlur and RandomHorizontalFlip. They are drawn
on the CPU for the whole batch and then cut to the rows of this process, so that the number of processes changes nothing.
B images, H x W pixels.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from kornia.filters import gaussian_blur2d
from torch import Tensor

from invp.core.colour import per_channel
from invp.core.replay import Replayed
from invp.core.selection import mixed_seed
from invp.data.adjust import ADJUSTMENTS, blur_width, crop_and_resize, crop_boxes, hue, to_grey
from invp.plumbing.sections import Augmentation

SMALL = 128  # pixels of a side up to which launches take a GPU longer than arithmetic
SOLARIZED_FROM = 128  # the level, of 255, from which on solarisation turns levels round
UNCHANGED = np.array([1, 1, 1, 0], np.float32)  # the numbers with which they change nothing
COLUMNS = [4, 3, 4 * len(ADJUSTMENTS)]  # of a table of draws: boxes, what is done or not, adjustments


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

    def table(self) -> Tensor:
        """All of it but the blur as numbers, BxCOLUMNS: boxes, flip, grey, solarized, and four times a number for each adjustment.

        In each turn an image has its own number for one adjustment, and those that change nothing for the others.
        """
        solarized = np.zeros_like(self.flip) if self.solarized is None else self.solarized
        turns = np.tile(UNCHANGED, (len(self.flip), 4, 1))
        if self.jittered is not None:
            rows = np.flatnonzero(self.jittered)
            for turn in range(4):
                kind = self.order[rows, turn]
                turns[rows, turn, kind] = self.factors.numpy()[rows, kind]
        flags = np.stack([self.flip, self.grey, solarized], 1).astype(np.float32)
        return torch.cat([self.boxes, torch.from_numpy(flags), torch.from_numpy(turns).flatten(1)], 1)

    def __getitem__(self, rows: slice) -> "Draws":
        return Draws(*(None if value is None else value[rows] for value in vars(self).values()))


class Augment:
    """The augmentation that the options describe, as a function of a batch and a key."""

    def __init__(self, options: Augmentation):
        self.options = options
        self._replayed: Replayed | None = None

    def __call__(self, images: Tensor, key: tuple[int, ...], rows: slice, global_batch: int) -> Tensor:
        """Augments uint8 images Bx(1|3)xHxW, the `rows` of a global batch, to normalised floats Bx3xsizexsize.

        `key` is (seed, epoch, step, view); equal keys give equal parameters.
        """
        draws = self.drawn(key, rows, global_batch, *images.shape[-2:])
        if not images.is_cuda or draws.blurred is not None or images.shape[-1] > SMALL:
            return self.applied(images, draws)
        constants = torch.tensor([self.options.mean, self.options.std])
        if self._replayed is None:
            self._replayed = Replayed(self.applied_at_once, images.device)
        return self._replayed(images, draws.table(), constants).clone()

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

    def applied_at_once(self, images: Tensor, table: Tensor, constants: Tensor) -> Tensor:
        """`applied`, by the same operations for all images whatever was drawn: for small images on a GPU, where launches are what takes time.

        `table` is that of the draws, `constants` the means and the standard deviations of the channels, 2x3.
        """
        options = self.options
        boxes, flags, turns = table.split(COLUMNS, 1)
        flip, grey, solarized = (flags > 0).T
        turns = turns.unflatten(1, (4, -1))
        result = images.float().div_(255)
        if options.crop_scale == [1.0, 1.0] and images.shape[-2:] == (options.size, options.size):
            result = torch.where(flip[:, None, None, None], result.flip(-1), result)
        else:
            result = crop_and_resize(result, boxes, options.size, flip, options.whole_pixels, options.interpolation)
            result = result.clamp_(0, 1) if options.interpolation == "bicubic" else result
        result = result.expand(-1, 3, -1, -1).contiguous()
        if options.grayscale_first:
            result = torch.where(grey[:, None, None, None], to_grey(result), result)
        if options.jitter_probability:
            for turn in turns.unbind(1):
                for strength, number, adjust in zip(options.jitter[:3], turn.T, ADJUSTMENTS, strict=False):
                    if strength:
                        adjust(result, number)
                if options.jitter[3]:
                    turned = result.clone()
                    hue(turned, turn[:, 3])
                    result = torch.where((turn[:, 3] != 0)[:, None, None, None], turned, result)
        if not options.grayscale_first:
            result = torch.where(grey[:, None, None, None], to_grey(result), result)
        if options.solarize:
            result = torch.where((solarized[:, None, None, None]) & (result >= SOLARIZED_FROM / 255), 1 - result, result)
        mean, std = constants[:, None, :, None, None]
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
