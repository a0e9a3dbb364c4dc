"""PASCAL VOC2012's images that have masks of its twenty classes, in the layout of its archives."""

from dataclasses import dataclass
from pathlib import Path

from invp.datasets._source import Source
from invp.datasets._voc import VOCConfig, check_voc_root, has_list, load_voc, raw_voc
from invp.plumbing.options import option

SPLITS = ("train", "test", "val")
MULTI_LABEL = True
MASKS = True


@dataclass
class Config(VOCConfig):
    """The folder of VOC2012. `train` and `test` are the train and val of ImageSets/Segmentation: test masks are not public."""

    folder: str = option("VOCdevkit/VOC2012", "under the data root", filled=True)
    train: str = option("train", "the list in ImageSets/Segmentation that plays this role", filled=True)
    test: str = option("val", "the list in ImageSets/Segmentation that plays this role", filled=True)
    LISTS = "Segmentation"
    MASKS = True


def check_root(config: Config, root: Path) -> None:
    check_voc_root(config, root)


def raw_files(config: Config, root: Path, split: str) -> list[Path]:
    return raw_voc(config, root, split)


def has_split(config: Config, root: Path, split: str) -> bool:
    return has_list(config, root, split)


def load(config: Config, root: Path | None, split: str) -> Source:
    """The official split, with the objects' boxes too; see Config."""
    return load_voc(config, root, split)
