"""Photographs to crops of one size: decoded and cropped by Pillow in threads, or by torchcodec on the device. B images."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from invp.core.selection import mixed_seed
from invp.data.augment import Augment, crop_boxes
from invp.data.shards import Shards
from invp.plumbing.errors import UserError

CENTRAL = 0.875  # of a photograph's short side: the central crop where nothing is augmented, as is usual


def crops_on_device(
    shards: Shards, index: Tensor, augmentation: Augment, key: tuple[int, int, int], device: torch.device
) -> Tensor:
    """The crops of random_crop, decoded by torchcodec on the device (nvJPEG on a GPU): uint8 Bx3xsizexsize there.

    What is no JPEG, or is one that torchcodec cannot decode, is decoded by Pillow.
    """
    try:
        from torchcodec.decoders import decode_jpeg
    except ImportError as error:
        raise UserError(f"augmentation.decoder is torchcodec, which cannot be imported ({error}): pip install torchcodec") from None
    contents = [shards.encoded(int(i)) for i in index]
    jpeg = [i for i, content in enumerate(contents) if content[:2] == b"\xff\xd8"]
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
    options, (seed, epoch, view), crops = augmentation.options, key, []
    for number, image in zip(index.tolist(), images, strict=True):
        if image is None:
            image = torch.from_numpy(np.array(shards.decoded(number))).permute(2, 0, 1).to(device)
        generator = torch.Generator().manual_seed(mixed_seed(seed, epoch, view, number))
        top, left, h, w = (int(v) for v in crop_boxes(1, *image.shape[1:], options.crop_scale, options.crop_ratio, generator)[0])
        part = image[None, :, top : top + h, left : left + w].float()
        crops.append(F.interpolate(part, (options.size, options.size), mode="bilinear", antialias=True)[0])
    return torch.stack(crops).round_().clamp_(0, 255).to(torch.uint8)


def random_crop(shards: Shards, number: int, augmentation: Augment, key: tuple[int, int, int]) -> Tensor:
    """A photograph's random crop at the size of the network, as uint8 3xsizexsize; keyed by (seed, epoch, view, number)."""
    image, options = shards.decoded(number), augmentation.options
    generator = torch.Generator().manual_seed(mixed_seed(*key, number))
    top, left, h, w = crop_boxes(1, image.height, image.width, options.crop_scale, options.crop_ratio, generator)[0].tolist()
    # Cropped first, as torchvision does: Pillow's `box` would see pixels from beyond the crop.
    cropped = image.crop((left, top, left + w, top + h))
    # Differs from torchvision for crops of more than four times the size: halved by whole pixels first, which is faster.
    resized = cropped.resize((options.size, options.size), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


def resized(images: Tensor, size: int) -> Tensor:
    """Whole images in [0, 1], BxCxHxW, at size x size pixels."""
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True)


def central_crop(image: Image.Image, size: int, crop: float) -> Tensor:
    """The central crop of torchvision's Resize(size / crop) and CenterCrop(size), uint8 3xsizexsize."""
    short = round(size / crop)
    # torchvision truncates the long side and rounds half an offset to the even number.
    width, height = (short if side == min(image.size) else int(short * side / min(image.size)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return torch.from_numpy(np.array(image.crop((left, top, left + size, top + size)))).permute(2, 0, 1)
