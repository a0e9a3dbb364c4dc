"""CIFAR-100: 50,000 training and 10,000 test images of 32x32 pixels in a hundred classes (Krizhevsky, 2009), in torchvision's layout."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.datasets._pixels import expect, opened, source_of
from invp.datasets._source import BaseConfig, Source
from invp.plumbing.raw_data import below

SPLITS = ("train", "test")


@dataclass
class Config(BaseConfig):
    """No options of its own."""


def check_root(config: Config, root: Path) -> None:
    expect("CIFAR-100", root, "cifar-100-python")


def raw_files(config: Config, root: Path, split: str) -> Iterator[str]:
    """All files of the set."""
    return below(root / "cifar-100-python")


def load(config: Config, root: Path | None, split: str) -> Source:
    """The official split as pixels."""
    from torchvision.datasets import CIFAR100

    root = root or Path("data")
    data = opened("CIFAR-100", "cifar-100-python/", root, lambda: CIFAR100(str(root), train=split == "train"))
    return source_of(data.data.transpose(0, 3, 1, 2), np.array(data.targets), data.classes, config, split)
