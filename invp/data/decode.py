"""Photographs to crops of one size: decoded, cropped and resized in threads, or by torchcodec on the device. B images.

OpenCV decodes JPEG to the same pixels as Pillow, which decodes everything else. torch resizes, with antialiasing, to the pixels of
torchvision's transforms of tensors; Pillow's differ by one level of 255 at most places where they differ.
"""

import io
import math
from functools import cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from invp.core.selection import hashed_uniform
from invp.data.augment import Augment
from invp.data.shards import Shards
from invp.plumbing.errors import UserError

CENTRAL = 0.875  # of a photograph's short side: the central crop where nothing is augmented, as is usual
TRIES = 10  # of torchvision's RandomResizedCrop
JPEG = b"\xff\xd8"


@cache
def opencv() -> Any:
    """OpenCV, in the threads that call it alone: their number is the job's."""
    import cv2

    cv2.setNumThreads(0)
    return cv2


def pixels(content: bytes, reduction: int = 1) -> np.ndarray | None:
    """A JPEG as RGB, HxWx3 uint8, its sides divided by `reduction` (1, 2, 4 or 8) while it is decoded; None if it is none, or damaged."""
    if content[:2] != JPEG:
        return None
    cv2 = opencv()
    # A reduction's flag for colours is of blue, green, red; that for grey is the reduction alone.
    reduced = {1: 0, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 8: cv2.IMREAD_REDUCED_GRAYSCALE_8}
    flag = reduced[reduction] | cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    return cv2.imdecode(np.frombuffer(content, np.uint8), flag)


def photograph(shards: Shards, number: int) -> np.ndarray:
    """A photograph as RGB, HxWx3 uint8; UserError if it cannot be read."""
    found = pixels(shards.encoded(number))
    return np.array(shards.decoded(number)) if found is None else found


def crop_draws(index: Tensor, key: tuple[int, int, int]) -> np.ndarray:
    """The uniform numbers of the crops of the images `index` (B), for all at once: Bx22; `key` is (seed, epoch, view)."""
    return hashed_uniform(index, 2 * TRIES + 2, *key).numpy()


def crop_box(height: int, width: int, scale: list[float], ratio: list[float], draws: np.ndarray) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop, distributed as torchvision's RandomResizedCrop, from 22 uniform numbers.

    Ten tries, then the central crop of a permitted ratio.
    """
    numbers, logs = draws.tolist(), [math.log(value) for value in ratio]
    for number in range(TRIES):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * numbers[2 * number])
        aspect = math.exp(logs[0] + (logs[1] - logs[0]) * numbers[2 * number + 1])
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(numbers[-2] * (height - h + 1)), int(numbers[-1] * (width - w + 1)), h, w
    whole = width / height
    w = round(height * ratio[1]) if whole > ratio[1] else width
    h = round(width / ratio[0]) if whole < ratio[0] else height
    return (height - h) // 2, (width - w) // 2, h, w


def random_crops(shards: Shards, number: int, augmentations: list[Augment], draws: list[np.ndarray]) -> list[Tensor]:
    """A photograph's crops, one for each view's augmentation and draws (22 numbers): uint8 3xsizexsize. It is decoded once.

    Differs from torchvision where every crop has four times the size or more: such a photograph is halved while it is decoded.
    """
    content, views = shards.encoded(number), [augmentation.options for augmentation in augmentations]
    try:
        opened = Image.open(io.BytesIO(content))
        width, height = opened.size
        boxes = [crop_box(height, width, view.crop_scale, view.crop_ratio, own) for view, own in zip(views, draws, strict=True)]
        excess = min(min(h, w) / view.size for view, (_, _, h, w) in zip(views, boxes, strict=True))
        reduction = next(k for k in (8, 4, 2, 1) if k == 1 or excess >= 2 * k)
        image = pixels(content, reduction)
        if image is None:
            image, reduction = np.array(opened.convert("RGB")), 1
    except (OSError, ValueError, Image.DecompressionBombError):
        image = np.array(shards.decoded(number))  # whose error says which image it is
    return [
        _resized(image, tuple(value // reduction for value in box), view.size, view.interpolation)
        for view, box in zip(views, boxes, strict=True)
    ]


def _resized(image: np.ndarray, box: tuple[int, ...], size: int, mode: str) -> Tensor:
    """The box of an image HxWx3, resized to 3xsizexsize; no pixel beyond it is seen."""
    top, left, h, w = box
    part = torch.from_numpy(image[top : top + h, left : left + w]).permute(2, 0, 1)[None]
    return F.interpolate(part, (size, size), mode=mode, antialias=True)[0]


def crops_on_device(
    shards: Shards, index: Tensor, augmentations: list[Augment], key: tuple[int, int], device: torch.device
) -> list[Tensor]:
    """The crops of random_crops of the images `index` (B), decoded once by torchcodec on the device (nvJPEG on a GPU): of each view uint8
    Bx3xsizexsize there. `key` is (seed, epoch).

    What is no JPEG, or is one that torchcodec cannot decode, is decoded by Pillow.
    """
    images, views, found = _decoded_on_device(shards, index, device), [augmentation.options for augmentation in augmentations], []
    draws = [crop_draws(index, (*key, view)) for view in range(len(views))]
    for place, image in enumerate(images):
        boxes = [
            crop_box(*image.shape[1:], view.crop_scale, view.crop_ratio, own[place]) for view, own in zip(views, draws, strict=True)
        ]
        parts = [image[None, :, top : top + h, left : left + w].float() for top, left, h, w in boxes]
        found.append(
            [
                F.interpolate(part, (view.size, view.size), mode=view.interpolation, antialias=True)[0]
                for view, part in zip(views, parts, strict=True)
            ]
        )
    return [torch.stack(crops).round_().clamp_(0, 255).to(torch.uint8) for crops in zip(*found, strict=True)]


def _decoded_on_device(shards: Shards, index: Tensor, device: torch.device) -> list[Tensor]:
    """The photographs, 3xHxW uint8 each; UserError without torchcodec."""
    try:
        from torchcodec.decoders import decode_jpeg
    except ImportError as error:
        raise UserError(f"augmentation.decoder is torchcodec, which cannot be imported ({error}): pip install torchcodec") from None
    contents = [shards.encoded(int(i)) for i in index]
    jpeg = [i for i, content in enumerate(contents) if content[:2] == JPEG]
    images: list[Tensor | None] = [None] * len(contents)
    try:
        for i, image in zip(jpeg, decode_jpeg([contents[i] for i in jpeg], device=device) if jpeg else [], strict=True):
            images[i] = image
    except RuntimeError:  # one of them: each alone
        for i in jpeg:
            try:
                images[i] = decode_jpeg(contents[i], device=device)
            except RuntimeError:
                continue
    return [
        torch.from_numpy(np.array(shards.decoded(number))).permute(2, 0, 1).to(device) if image is None else image
        for number, image in zip(index.tolist(), images, strict=True)
    ]


def resized(images: Tensor, size: int) -> Tensor:
    """Whole images in [0, 1], BxCxHxW, at size x size pixels."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def central_crop(image: Image.Image, size: int, crop: float) -> Tensor:
    """The central crop of torchvision's Resize(size / crop) and CenterCrop(size) of a Pillow image, uint8 3xsizexsize."""
    short = round(size / crop)
    # torchvision truncates the long side and rounds half an offset to the even number.
    width, height = (short if side == min(image.size) else int(short * side / min(image.size)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return torch.from_numpy(np.array(image.crop((left, top, left + size, top + size)))).permute(2, 0, 1)
