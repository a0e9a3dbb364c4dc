"""Any folder in PASCAL VOC's layout, with its own classes, and seeded splits where it has no lists."""

from dataclasses import dataclass, replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from invp.datasets._listing import shared
from invp.datasets._photos import files_under, needed, source_of_files
from invp.datasets._source import Source
from invp.datasets._voc import VOCConfig, has_list, load_voc, objects_of, raw_voc
from invp.plumbing.errors import UserError
from invp.plumbing.options import option
from invp.plumbing.raw_data import below

SPLITS = ("train", "test", "val")
MULTI_LABEL = True
LAYOUT = "{folder}/{JPEGImages,Annotations} and, if there are splits, ImageSets/Main"


@dataclass
class Config(VOCConfig):
    """Objects with boxes in XML files."""

    folder: str = option("", "under the data root", filled=False)
    train: str = option("train", "the list in ImageSets/Main that plays this role", filled=True)
    classes: list[str] = option([], "names of objects, in the order of labels; empty: those of the annotations, sorted")
    test_share: float = option(0.2, "the share for test where ImageSets/Main has no lists, chosen by split_seed", above=0, below=1)


def has_lists(config: Config, root: Path) -> bool:
    return any((root / config.folder / "ImageSets/Main").glob("*.txt"))


def has_split(config: Config, root: Path, split: str) -> bool:
    """Whether there is a list of this split; without lists there are `train` and `test`."""
    if not has_lists(config, root):
        return split != "val"
    return has_list(config, root, split)


def check_root(config: Config, root: Path) -> None:
    for part in ("JPEGImages", "Annotations"):
        needed(root / config.folder / part, "a set in VOC's layout", LAYOUT)


def raw_files(config: Config, root: Path, split: str) -> list[str | Path]:
    """A list with its images and annotations, and all annotations where these know the classes; without lists all images too."""
    folder = root / config.folder
    found = (
        raw_voc(config, root, split) if has_lists(config, root) else [*below(folder / "JPEGImages"), *below(folder / "Annotations")]
    )
    return found if config.classes else [*found, *below(folder / "Annotations")]


def classes_in(annotations: list[Path]) -> list[str]:
    """The names of all objects, sorted."""
    names = set()
    for path in annotations:
        try:
            names |= {entry.findtext("name", "").strip() for entry in ElementTree.parse(path).iter("object")}
        except ElementTree.ParseError as error:
            raise UserError(f"{path} is no readable annotation: {error}") from None
    return sorted(names)


def load(config: Config, root: Path | None, split: str) -> Source:
    """The listed images of a split, or, without lists, a seeded share of those that have an annotation."""
    root = root or Path("data")
    check_root(config, root)
    folder = root / config.folder
    annotations = sorted((folder / "Annotations").glob("*.xml"))
    classes = config.classes or classes_in(annotations)
    if not classes:
        raise UserError(f"{folder / 'Annotations'} holds no object; one XML file for each image is expected there")
    config = replace(config, classes=classes)
    if has_lists(config, root):
        return load_voc(config, root, split)
    if split == "val":
        raise UserError(f"{folder} has no ImageSets/Main with lists: it has the splits train and test, by test_share")
    images = {path.stem: path.name for path in sorted((folder / "JPEGImages").iterdir())}
    if missing := [path.name for path in annotations if path.stem not in images]:
        raise UserError(f"{folder / 'JPEGImages'} lacks the images of {len(missing)} annotations: {', '.join(missing[:20])}")
    chosen = [annotations[i] for i in shared(np.zeros(len(annotations)), config.test_share, config.split_seed, split)]
    files = files_under(folder / "JPEGImages", [images[path.stem] for path in chosen], None)
    rule = f"{config.test_share:g} for test, the rest for train, seed {config.split_seed}"
    source = source_of_files(files, classes, config, split, rule, lambda i: objects_of(chosen[i], classes))
    source.listing += b"".join(path.read_bytes() for path in chosen)
    if bare := len(images) - len(annotations):
        source.ignored = {"images without an annotation": bare}
    return source
