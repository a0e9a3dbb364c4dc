"""Masks: the class of each pixel of an image, as a PNG. H x W pixels."""

import io

import numpy as np
from PIL import Image

IGNORED = 255  # the number of pixels that do not count


def mask_of(content: bytes) -> np.ndarray:
    """The class numbers of a mask, HxW uint8, from a PNG that has them as grey levels or as places in a palette; ValueError or OSError if it is none."""
    image = Image.open(io.BytesIO(content))
    if image.format != "PNG" or image.mode not in ("L", "P"):
        raise ValueError(f"it is {image.format} in mode {image.mode}, not a PNG of class numbers")
    return np.array(image)
