"""Photographs as files: checked one by one, kept as their original bytes, converted where that is asked for."""

import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from invp.datasets._listing import shown
from invp.datasets._source import BadImage, BaseConfig, Sample, Source, balanced, rule_of
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
LARGEST = 64  # pixels of a side of images that are kept as pixels
PLAIN_MODES = ("RGB", "L", "P", "RGBA", "LA", "1")  # their RGB is what anybody expects


@dataclass
class PhotoConfig(BaseConfig):
    """Options of sets of photographs, which are kept as encoded bytes."""

    on_bad_image: str = option(
        "error",
        "an image that is unreadable, CMYK, of 16 bits, of one pixel, or animated is an error, is left out and listed, or is made plain",
        choices=("error", "skip", "convert"),
    )
    short_side: int = option(
        0, "photographs with a longer short side are re-encoded at so many pixels; 0: the original bytes", least=0
    )


def checked(content: bytes, source: str, config: PhotoConfig) -> tuple[bytes, str]:
    """The bytes to keep and, if they are not the original ones, why; BadImage for what cannot be used."""
    try:
        image = Image.open(io.BytesIO(content))
        kind, mode, frames, size = image.format, image.mode, getattr(image, "n_frames", 1), image.size
        if kind == "JPEG" and not config.short_side:
            image.draft("RGB", (1, 1))  # reads every byte, but computes an eighth of the pixels
        image.load()
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = re.sub(r" ?<[^<>]* at 0x[0-9a-f]+>", "", str(error))  # the address in memory is another in each run
        raise BadImage(source, f"it cannot be read ({reason})") from None
    if min(size) < 2:
        raise BadImage(source, f"it has {size[0]}x{size[1]} pixels")
    fault = ""
    if frames > 1:
        fault = f"it is animated ({frames} frames)"
    elif mode not in PLAIN_MODES:
        fault = f"its mode is {mode}"
    elif kind not in FORMATS:
        fault = f"its format is {kind}"
    if fault and config.on_bad_image != "convert":
        raise BadImage(source, fault)
    small = config.short_side and min(size) > config.short_side
    if not fault and not small:
        return content, ""
    image = _plain(Image.open(io.BytesIO(content)))
    if small:
        scale = config.short_side / min(size)
        image = image.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=95)
    return out.getvalue(), fault or "short side"


def _plain(image: Image.Image) -> Image.Image:
    """The first frame in 8-bit RGB; 16-bit values by their upper byte."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        return Image.fromarray((values >> 8 if values.max() > 255 else values).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


@dataclass
class Files:
    """A list of files: names (unique, shown as sources), labels (None where unlabelled) and how to read one."""

    names: list[str]
    labels: Sequence[int] | None
    read: Callable[[int], bytes]
    sizes: Sequence[int] | None = None


def source_of_files(
    files: Files, classes: list[str], config: PhotoConfig, split: str, rule: str, annotate: Callable[[int], dict] | None = None
) -> Source:
    """The source of a list of photographs; `annotate(i)` adds fields of Sample. UserError for duplicates and labels out of range."""
    if len(set(files.names)) != len(files.names):
        seen: set[str] = set()
        twice = next(name for name in files.names if name in seen or seen.add(name))
        raise UserError(f"{shown(twice)} is listed twice in split {split}")
    labels = None if files.labels is None else np.asarray(files.labels, np.int64)
    if labels is not None and len(labels) and (labels.min() < 0 or labels.max() >= len(classes)):
        at = int(np.flatnonzero((labels < 0) | (labels >= len(classes)))[0])
        raise UserError(
            f"{shown(files.names[at])} has label {labels[at]}, but there are {len(classes)} classes (0 to {len(classes) - 1})"
        )
    if labels is None and config.per_class and split == "train":
        raise UserError(f"per_class is {config.per_class}, but the images have no single label each; valid: 0")
    whole = np.arange(len(files.names))
    chosen = whole if labels is None or split != "train" else balanced(labels, config.per_class, config.split_seed)

    def read(number: int) -> Sample:
        index = int(chosen[number])
        name = shown(files.names[index])
        try:
            content = files.read(index)
        except OSError as error:
            raise UserError(f"{name} is listed in split {split}, but cannot be opened: {error.strerror or error}") from None
        content, why = checked(content, name, config)
        label = None if labels is None else int(labels[index])
        return Sample(content, label, name, converted=why, **(annotate(index) if annotate else {}))

    lines = [f"{files.names[i]} {files.sizes[i] if files.sizes is not None else ''}" for i in chosen]
    listing = os.fsencode("\n".join(lines)) + (b"" if labels is None else labels[chosen].tobytes())
    return Source(
        classes, len(chosen), read, listing, rule_of(config, split, rule), "encoded", None,
        multi_label=annotate is not None, skip_bad=config.on_bad_image != "error",
    )  # fmt: skip


def first_sizes(source: Source) -> dict[tuple[int, int], str]:
    """The sizes (width, height) of the first twenty images that can be read, each with the source of the first image that has it."""
    sizes: dict[tuple[int, int], str] = {}
    for number in range(min(20, source.num_samples)):
        try:
            sample = source.read(number)
        except BadImage:
            continue  # it is reported when the whole set is read
        sizes.setdefault(Image.open(io.BytesIO(sample.image)).size, sample.source)
    return sizes


def as_pixels(source: Source) -> Source:
    """The same images as pixels 3xHxW. UserError unless the first ones are equal and small; of the others, each that is not is a bad image."""
    advice = f"decode: true is for equal-sized images up to {LARGEST} px; set decode: false"
    sizes = first_sizes(source)
    if not sizes:
        raise UserError(f"none of the first {min(20, source.num_samples)} images can be read; {advice}")
    (width, height), first = next(iter(sizes.items()))
    if len(sizes) > 1 or max(width, height) > LARGEST:
        raise UserError(f"{', '.join(f'{name} has {w}x{h} pixels' for (w, h), name in list(sizes.items())[:2])}; {advice}")

    def read(number: int) -> Sample:
        sample = source.read(number)
        image = Image.open(io.BytesIO(sample.image))
        if image.size != (width, height):
            reason = f"it has {image.size[0]}x{image.size[1]} pixels, {first} has {width}x{height}: {advice}"
            raise BadImage(sample.source, reason)
        sample.image = np.array(image.convert("RGB")).transpose(2, 0, 1)
        return sample

    return replace(source, read=read, format="uint8", shape=[3, height, width])


def files_under(folder: Path, names: list[str], labels: Sequence[int] | None, sizes: Sequence[int] | None = None) -> Files:
    """Files by their names in a folder."""
    return Files(names, labels, lambda i: (folder / names[i]).read_bytes(), sizes)


def needed(path: Path, what: str, layout: str) -> Path:
    """`path`, or a UserError that says what is expected where."""
    if not path.exists():
        raise UserError(
            f"{path} does not exist: {what} is expected as {layout}; set INVP_DATA (or data_root in the profile) to the folder that holds it"
        )
    return path
