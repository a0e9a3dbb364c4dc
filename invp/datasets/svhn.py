"""Street View House Numbers: 73,257 training and 26,032 test images of 32x32 pixels (Netzer et al., 2011), in torchvision's layout."""

from dataclasses import dataclass
from pathlib import Path

from invp.datasets._pixels import expect, opened, source_of
from invp.datasets._source import BaseConfig, Source

SPLITS = ("train", "test")


@dataclass
class Config(BaseConfig):
    """No options of its own."""


def check_root(config: Config, root: Path) -> None:
    expect("SVHN", root, "train_32x32.mat")


def raw_files(config: Config, root: Path, split: str) -> list[Path]:
    """The split's file."""
    return [root / f"{split}_32x32.mat"]


def has_split(config: Config, root: Path, split: str) -> bool:
    return (root / f"{split}_32x32.mat").exists()


def load(config: Config, root: Path | None, split: str) -> Source:
    """The official split as pixels; the class is the digit."""
    from torchvision.datasets import SVHN

    root = root or Path("data")
    data = opened("SVHN", "train_32x32.mat and test_32x32.mat", root, lambda: SVHN(str(root), split=split))
    return source_of(data.data, data.labels.astype("int64"), [str(digit) for digit in range(10)], config, split)
