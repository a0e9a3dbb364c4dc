"""Caltech-101: 101 classes of objects (Fei-Fei et al., 2004), in torchvision's layout caltech101/101_ObjectCategories/{class}/*.jpg.

There is no official split: `train_per_class` images of each class, chosen by `split_seed`, are the split train, the rest is test.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.datasets._listing import ENDINGS, images_under
from invp.datasets._photos import PhotoConfig, files_under, needed, source_of_files
from invp.datasets._source import Source, balanced
from invp.plumbing.options import option
from invp.plumbing.raw_data import below

SPLITS = ("train", "test")


@dataclass
class Config(PhotoConfig):
    """Thirty training images of each class are usual."""

    folder: str = option("caltech101/101_ObjectCategories", "under the data root", filled=True)
    train_per_class: int = option(30, "training images of each class; the rest is for the test", least=1)


def check_root(config: Config, root: Path) -> None:
    needed(root / config.folder, "Caltech-101", "a folder of images a class")


def raw_files(config: Config, root: Path, split: str) -> Iterator[str]:
    """All images: either split is a seeded part of them."""
    return below(root / config.folder, ENDINGS)


def load(config: Config, root: Path | None, split: str) -> Source:
    """The seeded split; the background class is left out, as is usual."""
    folder = (root or Path("data")) / config.folder
    check_root(config, root or Path("data"))
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir() and entry.name != "BACKGROUND_Google")
    ignored: Counter[str] = Counter()
    found = [(label, name, images_under(folder / name, ignored)) for label, name in enumerate(classes)]
    every = [(f"{name}/{file}", size, label) for label, name, images in found for file, size in images]
    labels = np.array([label for *_, label in every])
    training = np.isin(np.arange(len(every)), balanced(labels, config.train_per_class, config.split_seed))
    chosen = [entry for entry, train in zip(every, training, strict=True) if train == (split == "train")]
    names, sizes, own = ([entry[i] for entry in chosen] for i in range(3))
    rule = f"{config.train_per_class} of each class for train, the rest for test, seed {config.split_seed}"
    source = source_of_files(files_under(folder, names, own, sizes), classes, config, split, rule)
    source.ignored = dict(ignored)
    return source
