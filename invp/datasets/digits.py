"""The 1,797 handwritten digits that ship with scikit-learn: 8x8 pixels, one channel, 17 levels of grey."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.datasets._source import BaseConfig, Sample, Source, balanced
from invp.plumbing.options import option

SPLITS = ("train", "test")


@dataclass
class Config(BaseConfig):
    """The split is ours: the set has no official one."""

    test_images: int = option(360, "the same share of each class", least=1, most=1700)


def load(config: Config, root: Path | None, split: str) -> Source:
    """1,437 training and 360 test images, stratified by class with `split_seed`; `root` is not used."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, labels = load_digits(return_X_y=True)
    images = np.round(values * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=config.test_images, random_state=config.split_seed, stratify=labels
    )
    chosen = np.sort(train if split == "train" else test)
    if split == "train":
        chosen = chosen[balanced(labels[chosen], config.per_class, config.split_seed)]

    def read(number: int) -> Sample:
        return Sample(images[chosen[number]], int(labels[chosen[number]]), f"digits/{chosen[number]}")

    rule = f"ours: {config.test_images} test images, stratified by class, seed {config.split_seed}"
    return Source([str(digit) for digit in range(10)], len(chosen), read, images[chosen].tobytes(), rule, "uint8", [1, 8, 8])
