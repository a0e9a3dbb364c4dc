"""ImageNet (ILSVRC 2012) as folders of classes: imagenet/train/n01440764/*.JPEG and imagenet/val/n01440764/*.JPEG.

The validation images are the split `test`, because the labels of the true test set are not public.
"""

from dataclasses import dataclass
from pathlib import Path

from invp.datasets import image_folder
from invp.datasets._source import Source

SPLITS = ("train", "test")


@dataclass
class Config(image_folder.Config):
    """An `image_folder` with ImageNet's names."""

    folder: str = "imagenet"
    test: str = "val"


def check_root(config: Config, root: Path) -> None:
    image_folder.check_root(config, root)


def load(config: Config, root: Path | None, split: str) -> Source:
    """The official split."""
    return image_folder.load(config, root, split)
