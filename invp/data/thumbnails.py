"""Small square images of a prepared split, for the explorer's page and for contact sheets; nothing here needs PyTorch."""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from invp.plumbing.files import read_json, read_table


def thumbnail(content: bytes, shape: list[int] | None, side: int) -> Image.Image:
    """One image of a shard in colour, side x side pixels.

    With a `shape` (C, H, W) the content is pixels, which become larger or smaller squares of one colour; without one it is an
    encoded photograph, of which the central square is shown.
    """
    if shape is not None:
        pixels = np.frombuffer(content, np.uint8).reshape(shape).transpose(1, 2, 0)
        image = Image.fromarray(pixels[:, :, 0] if shape[0] == 1 else pixels).convert("RGB")
        return image.resize((side, side), Image.Resampling.NEAREST)
    image = Image.open(io.BytesIO(content)).convert("RGB")
    short = min(image.size)
    left, top = (image.width - short) // 2, (image.height - short) // 2
    return image.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.LANCZOS)


QUALITY = 80  # of WebP: enlarged threefold, 32-pixel photographs looked like the originals, in a fifth of the bytes of PNG
FEW_PIXELS = 16  # the side up to which WebP without loss is as small


def web_picture(image: Image.Image) -> str:
    """A small image as a page holds it: a WebP file in base64, without loss if it has few pixels."""
    content = io.BytesIO()
    image.save(content, "WEBP", **({"lossless": True} if image.width <= FEW_PIXELS else {"quality": QUALITY, "method": 3}))
    return base64.b64encode(content.getvalue()).decode()


def thumbnails(dataset: Path, numbers: np.ndarray, side: int) -> Iterator[tuple[int, Image.Image]]:
    """The images of a prepared split whose numbers are wanted, ascending, each with its number and one shard in memory at a time."""
    manifest = read_json(dataset / "manifest.json")
    start = 0
    for shard in manifest["shards"]:
        images = read_table(dataset / shard["file"])["image"]
        inside = (start <= numbers) & (numbers < start + len(images))
        for number in np.unique(numbers[inside]).tolist():
            yield number, thumbnail(images[number - start].as_py(), manifest["shape"], side)
        start += len(images)
