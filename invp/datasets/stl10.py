"""STL-10: 5,000 training, 8,000 test and 100,000 unlabelled images of 96x96 pixels (Coates et al., 2011), in torchvision's layout."""

from dataclasses import dataclass
from pathlib import Path

from invp.datasets._pixels import expect, opened, source_of
from invp.datasets._source import BaseConfig, Source

SPLITS = ("train", "test", "unlabelled")


@dataclass
class Config(BaseConfig):
    """No options of its own."""


def check_root(config: Config, root: Path) -> None:
    expect("STL-10", root, "stl10_binary")


def raw_files(config: Config, root: Path, split: str) -> list[Path]:
    """The split's images and labels, and the names of classes."""
    name = "unlabeled" if split == "unlabelled" else split
    return [root / "stl10_binary" / file for file in (f"{name}_X.bin", f"{name}_y.bin", "class_names.txt", "fold_indices.txt")]


def load(config: Config, root: Path | None, split: str) -> Source:
    """The official split as pixels; the unlabelled images have no label."""
    from torchvision.datasets import STL10

    root = root or Path("data")
    data = opened("STL-10", "stl10_binary/", root, lambda: STL10(str(root), split="unlabeled" if split == "unlabelled" else split))
    return source_of(data.data, None if split == "unlabelled" else data.labels.astype("int64"), list(data.classes), config, split)
