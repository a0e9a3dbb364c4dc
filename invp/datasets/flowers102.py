"""Oxford 102 Flowers: 1,020 training, 1,020 validation and 6,149 test photographs (Nilsback and Zisserman, 2008), in torchvision's layout."""

from dataclasses import dataclass
from pathlib import Path

from invp.datasets._photos import PhotoConfig, files_under, needed, source_of_files
from invp.datasets._source import Source

SPLITS = ("train", "test", "val")
IMAGE = "image_{:05d}.jpg"
KEYS = {"train": "trnid", "val": "valid", "test": "tstid"}


@dataclass
class Config(PhotoConfig):
    """No options of its own."""


def check_root(config: Config, root: Path) -> None:
    for part in ("jpg", "imagelabels.mat", "setid.mat"):
        needed(root / "flowers-102" / part, "Oxford 102 Flowers", "flowers-102/{jpg,imagelabels.mat,setid.mat}")


def numbers_of(folder: Path, split: str) -> list[int]:
    """The numbers of a split's images."""
    from scipy.io import loadmat

    return [int(n) for n in loadmat(folder / "setid.mat")[KEYS[split]].reshape(-1)]


def raw_files(config: Config, root: Path, split: str) -> list[Path]:
    """The split's images, and the two lists."""
    folder = root / "flowers-102"
    images = [folder / "jpg" / IMAGE.format(n) for n in numbers_of(folder, split)]
    return [folder / "imagelabels.mat", folder / "setid.mat", *images]


def load(config: Config, root: Path | None, split: str) -> Source:
    """The official split; classes are numbers from 1, as in the set's own files."""
    from scipy.io import loadmat

    check_root(config, root or Path("data"))
    folder = (root or Path("data")) / "flowers-102"
    numbers = numbers_of(folder, split)
    every = loadmat(folder / "imagelabels.mat")["labels"].reshape(-1)
    names, labels = [IMAGE.format(n) for n in numbers], [int(every[n - 1]) - 1 for n in numbers]
    classes = [str(i + 1) for i in range(int(every.max()))]
    return source_of_files(files_under(folder / "jpg", names, labels), classes, config, split, "official")
