"""What a data set is before it is prepared."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from invp.errors import UserError


@dataclass
class BaseConfig:
    """Options that every data set has."""

    rows_per_shard: int = 10000
    per_class: int = 0  # of the training split, so many images of each class, chosen by split_seed; 0: all
    split_seed: int = 0

    def __post_init__(self) -> None:
        if self.rows_per_shard < 1 or self.per_class < 0:
            raise UserError("rows_per_shard must be at least 1, and per_class at least 0")


@dataclass
class Sample:
    """One image, uint8 CxHxW or encoded bytes, with its label (None if there is none) and where it comes from."""

    image: np.ndarray | bytes
    label: int | None
    source: str


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
    options: dict[str, Any] = field(default_factory=dict)


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
