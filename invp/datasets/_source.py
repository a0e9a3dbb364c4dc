"""What a data set is before it is prepared."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass
class BaseConfig:
    """Options that every data set has."""

    rows_per_shard: int = 10000
    on_bad_image: str = "error"


@dataclass
class Sample:
    """One image with what is known of it."""

    image: np.ndarray | bytes
    label: int | None
    source: str
    labels: list[int] | None = None
    boxes: list[Any] = field(default_factory=list)


@dataclass
class Source:
    """One split: `num_samples` images, read one at a time."""

    classes: list[str]
    num_samples: int
    read: Callable[[int], Sample]
    listing: bytes
    split_rule: str
    format: str
    shape: list[int] | None
