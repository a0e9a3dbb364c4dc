"""The 1,797 handwritten digits that ship with scikit-learn: 8x8 pixels, one channel."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.datasets._source import BaseConfig, Sample, Source

SPLITS = ("train", "test")


@dataclass
class Config(BaseConfig):
    split_seed: int = 0


def load(config: Config, root: Path | None, split: str) -> Source:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    values, labels = load_digits(return_X_y=True)
    images = np.round(values * 255 / 16).astype(np.uint8).reshape(-1, 1, 8, 8)
    train, test = train_test_split(np.arange(len(labels)), test_size=360, random_state=config.split_seed, stratify=labels)
    chosen = np.sort(train if split == "train" else test)

    def read(i):
        return Sample(images[chosen[i]], int(labels[chosen[i]]), f"digits/{chosen[i]}")

    return Source([str(d) for d in range(10)], len(chosen), read, images[chosen].tobytes(), f"stratified, seed {config.split_seed}", "uint8", [1, 8, 8])
