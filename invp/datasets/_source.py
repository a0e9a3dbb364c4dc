"""What a data set is before it is prepared."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from invp.plumbing.errors import UserError
from invp.plumbing.options import option


@dataclass
class BaseConfig:
    """Options that every data set has."""

    rows_per_shard: int = option(10000, "images in a shard", least=1)
    per_class: int = option(0, "so many training images of each class, chosen by split_seed; 0: all", least=0)
    split_seed: int = option(0, "of splits and choices that are not the set's own", least=0)
    BALANCED = True  # whether per_class can choose: not where images are generated, come in views or have several labels

    def __post_init__(self) -> None:
        if self.per_class and not self.BALANCED:
            raise UserError(f"per_class is {self.per_class}, which this set has no use for; valid: 0")


@dataclass
class Sample:
    """One image, uint8 CxHxW or encoded bytes, with its label (None if there is none) and where it comes from.

    Multi-label sets have `labels` instead: 1, 0, or -1 where all objects of the class are marked difficult. `boxes` are
    (x1, y1, x2, y2) in pixels from 0, ends excluded, each with its class and its mark.

    `mask` is a PNG of the image's size with the class of each pixel: 0 the background, 1 + c the class c, 255 what does not count.
    """

    image: np.ndarray | bytes
    label: int | None
    source: str
    labels: list[int] | None = None
    boxes: list[list[float]] | None = None
    box_labels: list[int] | None = None
    difficult: list[bool] | None = None
    mask: bytes | None = None
    targets: list[float] | None = None  # known numbers of the image, in the order of Source.targets
    converted: str = ""  # why the image is not as it was found


class BadImage(UserError):
    """A single image that cannot be used as it is: its `source` and the `reason`."""

    def __init__(self, source: str, reason: str):
        super().__init__(f"{source} is no usable image: {reason}; on_bad_image: skip leaves such images out and lists them")
        self.source, self.reason = source, reason


@dataclass
class Source:
    """One split: `num_samples` images, read by number; `listing` is what identifies it and is hashed."""

    classes: list[str]
    num_samples: int
    read: Callable[[int], Sample]
    listing: bytes
    split_rule: str
    format: str  # uint8 | encoded
    shape: list[int] | None  # [C, H, W] of uint8 images
    multi_label: bool = False
    skip_bad: bool = False
    ignored: dict[str, int] = field(default_factory=dict)  # what lies there and is not used, by its kind, and how many
    targets: tuple[str, ...] = ()  # names of the numbers that are known of each image, as its pose or size
    masks: bool = False  # whether each image has a mask of classes


def balanced(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """The numbers, ascending, of `per_class` images of each class (all, if 0), chosen by a seed."""
    if not per_class:
        return np.arange(len(labels))
    generator = np.random.default_rng(seed)
    chosen = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < per_class:
            raise UserError(f"per_class is {per_class}, but class {label} has only {len(members)} images")
        chosen.append(generator.choice(members, per_class, replace=False))
    return np.sort(np.concatenate(chosen))


def rule_of(config: Any, split: str, rule: str = "official") -> str:
    """How a split was made, in words: `rule`, and the balanced part of it."""
    return f"{rule}; {config.per_class} of each class, seed {config.split_seed}" if config.per_class and split == "train" else rule
