"""CIFAR-10: 50,000 training and 10,000 test images of 32x32 pixels in ten classes (Krizhevsky, 2009).

Read from Parquet files (cifar10/train-*.parquet) or, where these are not, in torchvision's layout (cifar-10-batches-py).
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from invp.datasets import parquet
from invp.datasets._pixels import source_of
from invp.datasets._source import BaseConfig, Source
from invp.plumbing.errors import UserError
from invp.plumbing.raw_data import below

SPLITS = ("train", "test")


@dataclass
class Config(BaseConfig):
    """No options of its own."""


def check_root(config: Config, root: Path) -> None:
    """UserError unless one of the two layouts lies under the data root."""
    if not any((root / "cifar10").glob("train-*.parquet")) and not (root / "cifar-10-batches-py").is_dir():
        raise UserError(
            f"CIFAR-10 was not found under {root}: expected cifar10/train-*.parquet or cifar-10-batches-py/; "
            "set INVP_DATA (or data_root in the profile) to the folder that holds it"
        )


def raw_files(config: Config, root: Path, split: str) -> list[str]:
    """All files of either layout that is there."""
    return [*below(root / "cifar10"), *below(root / "cifar-10-batches-py")]


def has_split(config: Config, root: Path, split: str) -> bool:
    return any((root / "cifar10").glob(f"{split}-*.parquet")) or (root / "cifar-10-batches-py").is_dir()


def load(config: Config, root: Path | None, split: str) -> Source:
    """The official split as pixels."""
    root = root or Path("data")
    check_root(config, root)
    if any((root / "cifar10").glob("train-*.parquet")):
        options = {name: getattr(config, name) for name in ("rows_per_shard", "per_class", "split_seed")}
        return parquet.load(replace(parquet.Config(folder="cifar10", decode=True), **options), root, split)
    from torchvision.datasets import CIFAR10

    data = CIFAR10(str(root), train=split == "train")
    return source_of(data.data.transpose(0, 3, 1, 2), np.array(data.targets), data.classes, config, split)
