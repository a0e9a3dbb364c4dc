"""Colours of crops on a CPU, an image at a time in its thread, by OpenCV: whole levels, as torchvision's transforms of Pillow images."""

import numpy as np
import torch
from torch import Tensor

from invp.data.adjust import blur_width
from invp.data.augment import SOLARIZED_FROM, Augment, Draws
from invp.data.decode import opencv

LEVELS = np.arange(256.0)


def coloured(crops: list[Tensor], augmentation: Augment, draws: Draws, out: Tensor | None = None) -> Tensor:
    """Crops (B of 3xsizexsize, uint8) with what was drawn for them, normalised floats Bx3xsizexsize on the CPU, in the memory of `out`.

    Equal to `Augment.applied` but for rounding to whole levels after each step, as torchvision's transforms of Pillow images do.
    """
    cv2, options = opencv(), augmentation.options
    if out is None:
        out = torch.empty(len(crops), *crops[0].shape)
    mean, std = (torch.tensor(values)[:, None] for values in (options.mean, options.std))
    tables = torch.mul(torch.arange(256.0), 1 / (255 * std)).sub_(mean / std).numpy()  # what each level of a channel becomes
    for row, (crop, channels) in enumerate(zip(crops, out.numpy(), strict=True)):
        image = _coloured(cv2.merge(list(crop.numpy())), augmentation, draws, row)
        for levels, table, channel in zip(cv2.split(image), tables, channels, strict=True):
            cv2.LUT(levels, table, dst=channel)
    return out


def _coloured(image: np.ndarray, augmentation: Augment, draws: Draws, row: int) -> np.ndarray:
    """An image HxWx3 with what was drawn for its row."""
    cv2, options = opencv(), augmentation.options
    if draws.flip[row]:
        image = cv2.flip(image, 1)
    if draws.grey[row] and options.grayscale_first:
        image = _grey(image)
    if draws.jittered is not None and draws.jittered[row]:
        factors = draws.factors[row].tolist()
        for number in draws.order[row].tolist():
            if options.jitter[number]:
                image = _ADJUSTED[number](image, factors[number])
    if draws.grey[row] and not options.grayscale_first:
        image = _grey(image)
    if draws.blurred is not None and draws.blurred[row]:
        width = blur_width(options.size)
        image = cv2.GaussianBlur(image, (width, width), float(draws.sigma[row]), borderType=cv2.BORDER_REFLECT_101)
    if draws.solarized is not None and draws.solarized[row]:
        image = _table(image, np.where(LEVELS >= SOLARIZED_FROM, 255 - LEVELS, LEVELS))
    return image


def _grey(image: np.ndarray) -> np.ndarray:
    cv2 = opencv()
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def _table(image: np.ndarray, levels: np.ndarray) -> np.ndarray:
    return opencv().LUT(image, levels.clip(0, 255).astype(np.uint8))


def _brightness(image: np.ndarray, factor: float) -> np.ndarray:
    return _table(image, LEVELS * factor)


def _contrast(image: np.ndarray, factor: float) -> np.ndarray:
    cv2 = opencv()
    mean = int(cv2.mean(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))[0] + 0.5)
    return _table(image, mean + factor * (LEVELS - mean))


def _saturation(image: np.ndarray, factor: float) -> np.ndarray:
    return opencv().addWeighted(image, factor, _grey(image), 1 - factor, 0)


def _hue(image: np.ndarray, shift: float) -> np.ndarray:
    cv2 = opencv()
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    hsv[..., 0] += np.uint8(int(shift * 255) % 256)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


_ADJUSTED = (_brightness, _contrast, _saturation, _hue)  # in the order of Augment's
