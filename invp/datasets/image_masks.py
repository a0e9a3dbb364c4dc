"""Any photographs with a mask each: `{folder}/images/{train,test,val}/**/*.jpg`, and under `masks` PNG files of the same names.

Without a test split, `test_share` makes one of the training split's images.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from invp.data.masks import mask_of
from invp.datasets._listing import ENDINGS, SHOWN, images_under, shared, shown
from invp.datasets._photos import PhotoConfig, files_under, needed, source_of_files
from invp.datasets._source import Source
from invp.plumbing.errors import UserError
from invp.plumbing.options import option
from invp.plumbing.raw_data import below

SPLITS = ("train", "test", "val")
MULTI_LABEL = True
MASKS = True
LAYOUT = "{folder}/{images,masks}/{train,test,val}, or train: . for {folder}/{images,masks} themselves"


@dataclass
class Config(PhotoConfig):
    """Folders of images and of masks; an image has the labels of the classes that are in its mask, and no boxes."""

    classes: list[str] = option(
        help="names of the numbers 1, 2 ... in the masks; 0 is the background, and 255 does not count", filled=True
    )
    folder: str = option("", "under the data root")
    images: str = option("images", "the folder of all images in `folder`", filled=True)
    masks: str = option("masks", "the folder of all masks in `folder`: PNG with a class number a pixel", filled=True)
    train: str = option("train", "the folder of this split in both; '.': they themselves", filled=True)
    test: str = option("test", "the folder of this split in both", filled=True)
    val: str = option("val", "the folder of this split in both", filled=True)
    test_share: float = option(
        0.0, "the share of `train` that is the test split, chosen by split_seed; 0: `test` is", least=0, below=1
    )
    BALANCED = False


def place_of(config: Config, split: str) -> str:
    """The split in whose folder the images of a split lie."""
    return "train" if split == "test" and config.test_share else split


def folders_of(config: Config, root: Path, split: str) -> list[Path]:
    """The folder of a split's images, and that of its masks."""
    return [root / config.folder / part / getattr(config, place_of(config, split)) for part in (config.images, config.masks)]


def has_split(config: Config, root: Path, split: str) -> bool:
    """Whether the user's folders have this split; only `train` must be there."""
    return folders_of(config, root, split)[0].is_dir()


def check_root(config: Config, root: Path) -> None:
    for folder in folders_of(config, root, "train"):
        needed(folder, "a set of images and masks", LAYOUT)
    own = root / config.folder / config.images / config.test
    if config.test_share and own.exists():
        raise UserError(f"test_share is {config.test_share:g}, but there is a test split, {own}; set test_share: 0")


def raw_files(config: Config, root: Path, split: str) -> Iterator[str | Path]:
    """The folders, images and masks of a split."""
    for folder in folders_of(config, root, split):
        yield from below(folder, ENDINGS)


def annotation_of(path: Path, num_classes: int) -> dict:
    """The mask of an image and the labels that it gives it, as fields of Sample; what is wrong with a mask is said when it is prepared."""
    content = path.read_bytes()
    try:
        numbers = np.unique(mask_of(content))
    except (OSError, ValueError):
        numbers = np.zeros(0)
    labels = [int(number in numbers) for number in range(1, num_classes + 1)]
    return {"mask": content, "labels": labels, "boxes": [], "box_labels": [], "difficult": []}


def load(config: Config, root: Path | None, split: str) -> Source:
    """The split's photographs as their original bytes, in the order of their names; UserError names images without a mask."""
    root = root or Path("data")
    check_root(config, root)
    ignored: Counter[str] = Counter()
    images, masks = folders_of(config, root, split)
    found = images_under(needed(images, f"split {split}", LAYOUT), ignored)
    if not found:
        raise UserError(f"{images} holds no image ({', '.join(ENDINGS)})")
    rule, chosen = "official folders", np.arange(len(found))
    if config.test_share and split != "val":
        chosen = shared(np.zeros(len(found)), config.test_share, config.split_seed, split)
        rule += f"; {config.test_share:g} for test, the rest for train, seed {config.split_seed}"
    names, sizes = zip(*(found[i] for i in chosen), strict=True)
    paths = [masks / PurePath(name).with_suffix(".png") for name in names]
    if missing := [shown(name) for name, path in zip(names, paths, strict=True) if not path.exists()]:
        raise UserError(f"{len(missing)} images have no mask of their name (.png) in {masks}: {', '.join(missing[:SHOWN])}")
    files = files_under(images, list(names), None, sizes)
    source = source_of_files(files, config.classes, config, split, rule, lambda i: annotation_of(paths[i], len(config.classes)))
    source.listing += b"".join(path.read_bytes() for path in paths)
    source.masks, source.ignored = True, dict(sorted(ignored.items()))
    return source
