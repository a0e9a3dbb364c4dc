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


QUALITY = 75  # of WebP: at 32 to 48 pixels no difference to the original was seen at twice the size


def web_picture(image: Image.Image) -> tuple[str, str]:
    """A small image as a page may hold it: the format, which is `webp`, and the file as base64.

    Without loss where that is smaller, as of images of a few pixels, else with it.
    """
    files = []
    for options in ({"lossless": True, "quality": 50, "method": 1}, {"quality": QUALITY, "method": 3}):
        content = io.BytesIO()
        image.save(content, "WEBP", **options)
        files.append(content.getvalue())
    return "webp", base64.b64encode(min(files, key=len)).decode()


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
