"""Any photographs: `{folder}/{train,test,val}/{class}/**/*.jpg`, lists of paths and labels, or folders without classes.

Without a test split, `test_share` makes one of the training split's images.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.datasets._listing import ENDINGS, SHOWN, folders_in, images_under, in_order, read_labels, shared, shown
from invp.datasets._photos import PhotoConfig, as_pixels, files_under, needed, source_of_files
from invp.datasets._source import Source
from invp.plumbing.errors import UserError
from invp.plumbing.options import option
from invp.plumbing.raw_data import below

SPLITS = ("train", "test", "val", "unlabelled")


@dataclass
class Config(PhotoConfig):
    """Folders of images."""

    folder: str = option("", "under the data root")
    train: str = option("train", "the folder of this split; '.': the images or classes lie in `folder` itself", filled=True)
    test: str = option("test", "the folder of this split", filled=True)
    val: str = option("val", "the folder of this split", filled=True)
    unlabelled: str = option("unlabelled", "the folder of this split", filled=True)
    train_labels: str = option(
        "", "a CSV or .jsonl in `folder`: paths, from the split's folder, and labels; empty: folders are classes"
    )
    test_labels: str = option("", "as train_labels")
    val_labels: str = option("", "as train_labels")
    test_share: float = option(
        0.0, "the share of each class of `train` that is the test split, chosen by split_seed; 0: `test` is", least=0, below=1
    )
    classes: list[str] = option([], "names of classes, in the order of labels; empty: the sorted folders or labels of train")
    decode: bool = option(False, "keep pixels instead of encoded bytes, for equal-sized images up to 64 px")


@dataclass
class Found:
    """The images of a split: paths from its folder, sizes, the class of each (None: without classes), and how they were found."""

    names: list[str]
    sizes: list[int]
    labels: list[str] | None
    rule: str


def split_folder(config: Config, root: Path, split: str) -> Path:
    """The folder of a split; UserError says what is expected where."""
    folder = root / config.folder / getattr(config, split)
    return needed(
        folder, f"split {split}", f"a folder of images a class, or images without classes ({split}: . for `folder` itself)"
    )


def has_split(config: Config, root: Path, split: str) -> bool:
    """Whether the user's folders have this split; only `train` must be there."""
    return (split == "test" and config.test_share > 0) or (root / config.folder / getattr(config, split)).is_dir()


def has_labels(config: Config, root: Path, split: str) -> bool:
    """Whether the images of a split have classes: by a list, or by their folders."""
    place = "train" if split == "test" and config.test_share else split
    return bool(config.classes or getattr(config, f"{place}_labels", "") or folders_in(split_folder(config, root, place)))


def check_root(config: Config, root: Path) -> None:
    split_folder(config, root, "train")
    for split in ("train", "test", "val"):
        if listed := getattr(config, f"{split}_labels"):
            needed(root / config.folder / listed, f"{split}_labels", "a CSV or .jsonl of paths and labels")
    if config.test_share and (config.test_labels or (root / config.folder / config.test).exists()):
        where = root / config.folder / (config.test_labels or config.test)
        raise UserError(f"test_share is {config.test_share:g}, but there is a test split, {where}; set test_share: 0")


def raw_files(config: Config, root: Path, split: str) -> list[str | Path]:
    """The folders and images of a split, or its list and the images that it names; of other splits than train also whence the classes are."""
    place = "train" if split == "test" and config.test_share else split
    base = root / config.folder
    folder, listed = base / getattr(config, place), getattr(config, f"{place}_labels", "")
    if listed:
        found = [base / listed, *(f"{folder}/{name}" for name in read_labels(base / listed)[0])]
    else:
        found = [path for name in config.classes or [""] for path in below(folder / name, ENDINGS)]
    if place != "train" and not config.classes:
        train = base / config.train
        found += [base / config.train_labels] if config.train_labels else [train / name for name in folders_in(train)]
    return found


def images_of(config: Config, root: Path, split: str, ignored: Counter) -> Found:
    """The images in a split's own folder or list."""
    folder = split_folder(config, root, split)
    if listed := getattr(config, f"{split}_labels", ""):
        return listed_images(folder, root / config.folder / listed)
    present = folders_in(folder)
    beside = images_under(folder, ignored, depth=0)
    if not present and not config.classes:
        if not beside:
            raise UserError(f"{folder} holds neither folders of classes nor images ({', '.join(ENDINGS)})")
        return Found([name for name, _ in beside], [size for _, size in beside], None, "official folders")
    if beside:
        ignored["images beside the folders of classes"] += len(beside)
    names, sizes, labels = [], [], []
    for name in present if not config.classes else [name for name in config.classes if name in present]:
        found = images_under(folder / name, ignored)
        names += [f"{name}/{file}" for file, _ in found]
        sizes += [size for _, size in found]
        labels += [name] * len(found)
    return Found(names, sizes, None if split == "unlabelled" else labels, "official folders")


def listed_images(folder: Path, path: Path) -> Found:
    """The images that a list names; UserError names the first ones that are not there."""
    names, labels = read_labels(path)
    sizes, missing = [], []
    for name in names:
        try:
            sizes.append((folder / name).stat().st_size)
        except OSError:
            missing.append(name)
    if missing:
        first = ", ".join(shown(name) for name in missing[:SHOWN])
        raise UserError(f"{path} lists {len(missing)} images that are not in {folder}: {first}; paths count from there")
    return Found(names, sizes, labels, f"listed in {path.name}")


def classes_of(config: Config, root: Path, split: str, present: list[str]) -> list[str]:
    """The classes in the order of labels: the option's, else train's folders or labels, whatever the split lacks.

    UserError if the split has a class that train has not, or train lacks one of the option.
    """
    train = split_folder(config, root, "train")
    if config.train_labels:
        listed = set(present) if split == "train" else set(read_labels(root / config.folder / config.train_labels)[1])
        classes = config.classes or in_order(listed)
    else:
        classes = config.classes or folders_in(train)
    if split == "train" and (missing := [name for name in classes if name not in present]):
        if not config.classes:
            raise UserError(f"{shown(str(train / missing[0]))} holds no image ({', '.join(ENDINGS)})")
        raise UserError(f"{train} has no image of class '{missing[0]}' ({len(missing)} of the {len(classes)} classes are missing)")
    if not config.classes and (unknown := [name for name in present if name not in classes]):
        where = split_folder(config, root, split)
        raise UserError(
            f"{shown(str(where / unknown[0]))} is a class that {train} does not have ({len(unknown)} of {len(present)} classes)"
        )
    return classes


def load(config: Config, root: Path | None, split: str) -> Source:
    """The split's photographs as their original bytes, or pixels with `decode`, ordered by class and name, or as listed.

    An empty class of train is an error; of another split, what lacks is said in the manifest's split_rule.
    """
    root = root or Path("data")
    check_root(config, root)
    ignored: Counter[str] = Counter()
    place = "train" if split == "test" and config.test_share else split
    found = images_of(config, root, place, ignored)
    folder, classes, numbers = split_folder(config, root, place), [], None
    rule, kept = found.rule, np.arange(len(found.names))
    if found.labels is not None:
        classes = classes_of(config, root, place, sorted(set(found.labels)))
        number = {name: i for i, name in enumerate(classes)}
        every = np.array([number.get(name, -1) for name in found.labels], np.int64)
        kept = np.flatnonzero(every >= 0)
        if len(kept) < len(every):
            ignored["images of other classes"] += len(every) - len(kept)
    if config.test_share and split in ("train", "test"):
        labels = np.zeros(len(kept), np.int64) if found.labels is None else every[kept]
        kept = kept[shared(labels, config.test_share, config.split_seed, split)]
        rule += f"; {config.test_share:g} of each class for test, the rest for train, seed {config.split_seed}"
    if found.labels is not None:
        numbers = every[kept]
        if lacking := [shown(classes[i]) for i in np.setdiff1d(np.arange(len(classes)), numbers)]:
            rule += f"; no image of {', '.join(lacking)}"
    files = files_under(folder, [found.names[i] for i in kept], numbers, [found.sizes[i] for i in kept])
    source = source_of_files(files, [shown(name) for name in classes], config, split, rule)
    source.ignored = dict(sorted(ignored.items()))
    return as_pixels(source) if config.decode else source
