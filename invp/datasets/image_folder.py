"""Any folder of photographs with a folder a class, `{folder}/{train,test,val}/{class}/*.jpg`, or without classes, `{folder}/{train}/*.jpg`."""

import os
from dataclasses import dataclass
from pathlib import Path

from invp.datasets._photos import ENDINGS, PhotoConfig, files_under, needed, source_of_files
from invp.datasets._source import Source
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

SPLITS = ("train", "test", "val", "unlabelled")


@dataclass
class Config(PhotoConfig):
    """Folders of images."""

    folder: str = option("", "under the data root")
    train: str = option("train", "the folder of this split", filled=True)
    test: str = option("test", "the folder of this split", filled=True)
    val: str = option("val", "the folder of this split", filled=True)
    unlabelled: str = option("unlabelled", "the folder of this split", filled=True)
    classes: list[str] = option([], "names of classes, in the order of labels; empty: the sorted folders of train")


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


def folders_in(folder: Path) -> list[str]:
    """The names of a folder's folders, sorted."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def classes_of(config: Config, root: Path, split: str, present: list[str]) -> list[str]:
    """The classes in the order of labels: the option's, else train's folders, whatever the split lacks.

    UserError if the split has a class that train has not, or train lacks one of the option.
    """
    train = split_folder(config, root, "train")
    classes = config.classes or folders_in(train)
    if split == "train" and (missing := [name for name in classes if name not in present]):
        raise UserError(f"{train} has no folder of class '{missing[0]}' ({len(missing)} of the {len(classes)} classes are missing)")
    if not config.classes and (unknown := [name for name in present if name not in classes]):
        where = split_folder(config, root, split)
        raise UserError(f"{where / unknown[0]} is a class that {train} does not have ({len(unknown)} of {len(present)} classes)")
    return classes


def load(config: Config, root: Path | None, split: str) -> Source:
    """The split's photographs as their original bytes, ordered by class and name. An empty class of train is an error; of another
    split, what lacks is said in the manifest's split_rule."""
    root = root or Path("data")
    folder = split_folder(config, root, split)
    present = folders_in(folder)
    if not present and not config.classes:
        found = images_in(folder)
        if not found:
            raise UserError(f"{folder} holds neither folders of classes nor images ({', '.join(ENDINGS)})")
        names, sizes = [name for name, _ in found], [size for _, size in found]
        return source_of_files(files_under(folder, names, None, sizes), [], config, split, "official folders")
    classes = sorted(present) if split == "unlabelled" and not config.classes else classes_of(config, root, split, present)
    names, labels, sizes, lacking = [], [], [], []
    for label, name in enumerate(classes):
        found = images_in(folder / name) if name in present else []
        if not found:
            if split == "train":
                raise UserError(f"{folder / name} holds no image ({', '.join(ENDINGS)})")
            lacking.append(name)
        names += [f"{name}/{file}" for file, _ in found]
        sizes += [size for _, size in found]
        labels += [label] * len(found)
    rule = "official folders" + (f"; no image of {', '.join(lacking)}" if lacking else "")
    if split == "unlabelled":
        return source_of_files(files_under(folder, names, None, sizes), [], config, split, rule)
    return source_of_files(files_under(folder, names, labels, sizes), classes, config, split, rule)
