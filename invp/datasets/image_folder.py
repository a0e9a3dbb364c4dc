"""Any folder of photographs with a folder a class, `{folder}/{train,test,val}/{class}/*.jpg`, or without classes, `{folder}/{train}/*.jpg`."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from invp.datasets._photos import ENDINGS, PhotoConfig, files_under, needed, source_of_files
from invp.datasets._source import Source
from invp.plumbing.errors import UserError

SPLITS = ("train", "test", "val", "unlabelled")


@dataclass
class Config(PhotoConfig):
    """`folder` lies under the data root; `train`, `test`, `val` and `unlabelled` are the names of the splits' folders in it."""

    folder: str = ""
    train: str = "train"
    test: str = "test"
    val: str = "val"
    unlabelled: str = "unlabelled"
    classes: list[str] = field(default_factory=list)  # only these, in this order; empty: all, sorted


def split_folder(config: Config, root: Path, split: str) -> Path:
    """The folder of a split; UserError says what is expected where."""
    folder = root / config.folder / getattr(config, split)
    return needed(folder, f"split {split}", "a folder of images a class, or images without classes")


def has_split(config: Config, root: Path, split: str) -> bool:
    """Whether the user's folders have this split; only `train` must be there."""
    return (root / config.folder / getattr(config, split)).is_dir()


def check_root(config: Config, root: Path) -> None:
    split_folder(config, root, "train")


def images_in(folder: Path) -> list[tuple[str, int]]:
    """Name and size of the images that lie in a folder, sorted by name."""
    with os.scandir(folder) as entries:
        return sorted((e.name, e.stat().st_size) for e in entries if e.name.lower().endswith(ENDINGS))


def load(config: Config, root: Path | None, split: str) -> Source:
    """The split's photographs as their original bytes, ordered by class and name; an empty class is an error."""
    folder = split_folder(config, root or Path("data"), split)
    present = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    if not present and not config.classes:
        found = images_in(folder)
        if not found:
            raise UserError(f"{folder} holds neither folders of classes nor images ({', '.join(ENDINGS)})")
        names, sizes = [name for name, _ in found], [size for _, size in found]
        return source_of_files(files_under(folder, names, None, sizes), [], config, split, "official folders")
    if missing := [name for name in config.classes if name not in present]:
        raise UserError(
            f"{folder} has no folder of class '{missing[0]}' ({len(missing)} of the {len(config.classes)} classes are missing)"
        )
    classes = config.classes or present
    names, labels, sizes = [], [], []
    for label, name in enumerate(classes):
        found = images_in(folder / name)
        if not found:
            raise UserError(f"{folder / name} holds no image ({', '.join(ENDINGS)})")
        names += [f"{name}/{file}" for file, _ in found]
        sizes += [size for _, size in found]
        labels += [label] * len(found)
    if split == "unlabelled":
        return source_of_files(files_under(folder, names, None, sizes), [], config, split, "official folders")
    return source_of_files(files_under(folder, names, labels, sizes), classes, config, split, "official folders")
