"""Places205: 2.4 million photographs of 205 scenes (Zhou et al., 2014): a folder of images with train and val lists in csv.

The validation images are the split `test`, because the labels of the true test set are not public.
"""

from dataclasses import dataclass
from pathlib import Path

from invp.datasets._photos import PhotoConfig, files_under, needed, source_of_files
from invp.datasets._source import Source
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

SPLITS = ("train", "test")


@dataclass
class Config(PhotoConfig):
    """Lines of the lists are `a/abbey/gsun_0003.jpg 0`, with a space or a comma."""

    folder: str = option("places205", "under the data root", filled=True)
    images: str = option("images", "the folder in it that the lists start from", filled=True)
    train: str = option("train_places205.csv", "the list of this split", filled=True)
    test: str = option("val_places205.csv", "the list of this split", filled=True)


def check_root(config: Config, root: Path) -> None:
    for part in (config.images, config.train, config.test):
        needed(root / config.folder / part, "Places205", f"{config.folder}/{{{config.images},{config.train},{config.test}}}")


def raw_files(config: Config, root: Path, split: str) -> list[str | Path]:
    """The split's list and its images; and the list of train, which knows the classes."""
    folder = root / config.folder
    names, _ = _listed(folder / getattr(config, split))
    return [folder / getattr(config, split), folder / config.train, *(f"{folder}/{config.images}/{name}" for name in names)]


def load(config: Config, root: Path | None, split: str) -> Source:
    """The official list; the classes' names are those of the folders of the training list."""
    folder = (root or Path("data")) / config.folder
    check_root(config, root or Path("data"))
    names, labels = _listed(folder / getattr(config, split))
    training = (names, labels) if split == "train" else _listed(folder / config.train)
    by_label = {label: name.rsplit("/", 1)[0] for name, label in zip(*training, strict=True)}
    classes = [by_label.get(i, str(i)) for i in range(max(by_label) + 1)]
    return source_of_files(files_under(folder / config.images, names, labels), classes, config, split, "official list")


def _listed(path: Path) -> tuple[list[str], list[int]]:
    names, labels = [], []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        fields = line.replace(",", " ").rsplit(None, 1)
        if not fields:
            continue
        if len(fields) != 2 or not fields[1].lstrip("-").isdigit():
            raise UserError(f"{path}, line {number}: expected a path and a class number, not {line!r}")
        names.append(fields[0])
        labels.append(int(fields[1]))
    if not names:
        raise UserError(f"{path} lists no image")
    return names, labels
