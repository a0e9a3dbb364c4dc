"""PASCAL VOC2007: twenty classes, several an image, with boxes, in the layout of its archives."""

from dataclasses import dataclass
from pathlib import Path

from invp.datasets._source import Source
from invp.datasets._voc import VOCConfig, check_voc_root, has_list, load_voc, raw_voc
from invp.plumbing.options import option

SPLITS = ("train", "test", "val")
MULTI_LABEL = True


@dataclass
class Config(VOCConfig):
    """The folder of VOC2007."""

    folder: str = option("VOCdevkit/VOC2007", "under the data root", filled=True)


def check_root(config: Config, root: Path) -> None:
    check_voc_root(config, root)


def raw_files(config: Config, root: Path, split: str) -> list[Path]:
    return raw_voc(config, root, split)


def has_split(config: Config, root: Path, split: str) -> bool:
    return has_list(config, root, split)


def load(config: Config, root: Path | None, split: str) -> Source:
    """The official split; `train` is trainval unless `train` says otherwise."""
    return load_voc(config, root, split)
