"""Scenes to try detection and segmentation with: real handwritten digits laid on scikit-learn's two photographs, each with its box and its
pixels; PNG, several labels an image."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from invp.core.selection import mixed_seed
from invp.datasets._source import BaseConfig, Sample, Source
from invp.datasets.composites import digit_cutouts, photographs, with_alpha
from invp.plumbing.options import option

OPAQUE = 128  # of 255: a pixel belongs to a digit that covers half of it or more
SPLITS = ("train", "test")
MULTI_LABEL = True
MASKS = True


@dataclass
class Config(BaseConfig):
    """Digits on photographs, with boxes and masks; a digit has a fifth to two fifths of the side."""

    size: int = option(96, "pixels of a side", least=48)
    train_images: int = option(200, "of the training split", least=1)
    test_images: int = option(80, "of the test split", least=1)
    most: int = option(3, "digits in an image, from 1", least=1)
    num_classes: int = option(10, "the first so many digits", least=1, most=10)
    BALANCED = False


def as_png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def apart(box: list[float], others: list[list[float]]) -> bool:
    return all(box[2] <= o[0] or o[2] <= box[0] or box[3] <= o[1] or o[3] <= box[1] for o in others)


def load(config: Config, root: Path | None, split: str) -> Source:
    """Scenes that are a function of (split_seed, split, number); no digit is in both splits."""
    values, labels = digit_cutouts()
    order = np.random.default_rng(config.split_seed).permutation(np.flatnonzero(labels < config.num_classes))
    held = len(order) // 4
    own = order[held:] if split == "train" else order[:held]
    backgrounds = [Image.fromarray(photograph) for photograph in photographs()]

    def read(number: int) -> Sample:
        generator = np.random.default_rng(mixed_seed(config.split_seed, SPLITS.index(split), number))
        behind = backgrounds[int(generator.integers(len(backgrounds)))]
        edge = generator.uniform(0.5, 1.0) * min(behind.size)
        left, top = generator.uniform(0, behind.width - edge), generator.uniform(0, behind.height - edge)
        shape, box = (config.size, config.size), (left, top, left + edge, top + edge)
        scene = behind.resize(shape, Image.Resampling.BILINEAR, box)
        boxes, box_labels = [], []
        mask = Image.new("L", shape)
        for _ in range(int(generator.integers(1, config.most + 1))):
            which = int(own[generator.integers(len(own))])
            digit = Image.fromarray(values[which])
            digit = with_alpha(digit.crop(digit.getbbox()))
            scale = generator.uniform(0.2, 0.4) * config.size / max(digit.size)
            digit = digit.resize(
                (max(2, round(digit.width * scale)), max(2, round(digit.height * scale))), Image.Resampling.BICUBIC
            )
            x, y = (int(generator.integers(0, config.size - side + 1)) for side in digit.size)
            box = [float(x), float(y), float(x + digit.width), float(y + digit.height)]
            if apart(box, boxes):
                scene.paste(digit, (x, y), digit)
                mask.paste(int(labels[which]) + 1, (x, y), digit.getchannel("A").point(lambda a: 255 * (a >= OPAQUE)))
                boxes.append(box)
                box_labels.append(int(labels[which]))
        present = [int(c in box_labels) for c in range(config.num_classes)]
        return Sample(
            as_png(scene), None, f"{split}/{number}.png", labels=present, boxes=boxes, box_labels=box_labels,
            difficult=[False] * len(boxes), mask=as_png(mask),
        )  # fmt: skip

    count = config.train_images if split == "train" else config.test_images
    rule = f"ours: a quarter of the digits is for test images, seed {config.split_seed}"
    classes = [str(digit) for digit in range(config.num_classes)]
    return Source(classes, count, read, f"{config} {split}".encode(), rule, "encoded", None, multi_label=True, masks=True)
