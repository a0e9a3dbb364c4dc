"""Sets of equal-sized small images that torchvision reads into memory."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from invp.datasets._source import BaseConfig, Sample, Source, balanced, rule_of
from invp.plumbing.errors import UserError


def source_of(images: np.ndarray, labels: np.ndarray | None, classes: list[str], config: BaseConfig, split: str) -> Source:
    """The source of images NxCxHxW (uint8) in memory with labels N (None: unlabelled); the training split may be a balanced part."""
    whole = np.arange(len(images))
    chosen = whole if labels is None or split != "train" else balanced(labels, config.per_class, config.split_seed)

    def read(number: int) -> Sample:
        index = int(chosen[number])
        return Sample(images[index], None if labels is None else int(labels[index]), f"{split}/{index}")

    listing = str(len(images)).encode() if labels is None else labels[chosen].tobytes()
    return Source(classes, len(chosen), read, listing, rule_of(config, split), "uint8", list(images.shape[1:]))


def opened(name: str, expected: str, root: Path, open_it: Callable):
    """What `open_it` returns; UserError says which layout is expected under the data root if nothing is there."""
    try:
        return open_it()
    except (RuntimeError, FileNotFoundError):
        raise UserError(
            f"{name} was not found under {root}: expected {expected}; set INVP_DATA (or data_root in the profile) to the folder "
            "that holds it"
        ) from None


def expect(name: str, root: Path, *files: str) -> None:
    """UserError unless one of the files lies under the data root."""
    if not any((root / file).exists() for file in files):
        opened(name, " or ".join(files), root, lambda: (root / files[0]).stat())
