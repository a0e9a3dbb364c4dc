"""Oxford-IIIT Pets: 3,680 training and 3,669 test photographs of 37 breeds (Parkhi et al., 2012), in torchvision's layout oxford-iiit-pet/."""

from dataclasses import dataclass
from pathlib import Path

from invp.datasets._photos import PhotoConfig, files_under, needed, source_of_files
from invp.datasets._source import Source

SPLITS = ("train", "test")


@dataclass
class Config(PhotoConfig):
    """No options of its own."""


def check_root(config: Config, root: Path) -> None:
    for part in ("images", "annotations/trainval.txt", "annotations/test.txt"):
        needed(root / "oxford-iiit-pet" / part, "Oxford-IIIT Pets", "oxford-iiit-pet/{images,annotations}")


def listed_in(folder: Path, split: str) -> Path:
    """The list of a split."""
    return folder / "annotations" / ("trainval.txt" if split == "train" else "test.txt")


def rows_of(listed: Path) -> list[list[str]]:
    """The words of each line of a list."""
    return [line.split() for line in listed.read_text().splitlines() if line.strip() and not line.startswith("#")]


def raw_files(config: Config, root: Path, split: str) -> list[Path]:
    """The split's list and its images."""
    folder = root / "oxford-iiit-pet"
    listed = listed_in(folder, split)
    return [listed, *(folder / "images" / f"{row[0]}.jpg" for row in rows_of(listed))]


def load(config: Config, root: Path | None, split: str) -> Source:
    """The official split: trainval for train; lines are `Abyssinian_100 1 1 1`, whose first number is the class."""
    check_root(config, root or Path("data"))
    folder = (root or Path("data")) / "oxford-iiit-pet"
    rows = rows_of(listed_in(folder, split))
    names, labels = [f"{row[0]}.jpg" for row in rows], [int(row[1]) - 1 for row in rows]
    by_label = {label: name.rsplit("_", 1)[0] for name, label in zip(names, labels, strict=True)}
    classes = [by_label.get(i, str(i)) for i in range(max(by_label, default=-1) + 1)]
    return source_of_files(files_under(folder / "images", names, labels), classes, config, split, "official")
