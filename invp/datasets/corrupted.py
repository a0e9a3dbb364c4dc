"""Another data set whose test images are corrupted, as CIFAR-10-C is: what a network or a head learns from stays clean.

CIFAR-10-C's own files (CIFAR-10-C/{corruption}.npy and labels.npy under the data root, of 50,000 images, 10,000 a severity) are read where
they are; all else is made, by `invp/datasets/_corruptions.py`.
"""

import io
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

from invp.core.selection import mixed_seed
from invp.datasets import _corruptions
from invp.datasets._pixels import source_of
from invp.datasets._source import BaseConfig, Sample, Source
from invp.plumbing.config import instance
from invp.plumbing.errors import UserError
from invp.plumbing.options import option
from invp.plumbing.plugins import load_plugin
from invp.plumbing.raw_data import raw_paths

SPLITS = ("train", "test", "val")
FILES = "CIFAR-10-C"
IMAGES = 10_000  # of a severity in these files
ONLY_IN_FILES = ("glass_blur", "snow", "frost", "fog", "spatter")
KINDS = (*_corruptions.CONSTANTS, *ONLY_IN_FILES)


@dataclass
class Config(BaseConfig):
    """Another set's training and validation images as they are, and its test images corrupted."""

    of: dict[str, Any] = option(help="the other set, as any data set is given: {name: cifar10}, with its options")
    corruption: str = option(
        help=f"the kind; {', '.join(ONLY_IN_FILES)}: only where {FILES}/ has it, of: {{name: cifar10}}", choices=KINDS
    )
    severity: int = option(help="how strong it is, as published", least=1, most=5)
    BALANCED = False  # the other set may be


def other_of(config: Config) -> tuple[ModuleType, Any]:
    """The module of the other set, and its options."""
    plugin = load_plugin("datasets", config.of["name"])
    return plugin, instance(plugin.Config, config.of)


def files_of(config: Config, root: Path) -> list[Path]:
    """Where the images and labels of CIFAR-10-C lie, if there are any; none of another set."""
    return [root / FILES / f"{name}.npy" for name in (config.corruption, "labels")] if config.of["name"] == "cifar10" else []


def reads_files(config: Config, root: Path) -> bool:
    files = files_of(config, root)
    return bool(files) and all(file.exists() for file in files)


def check_root(config: Config, root: Path) -> None:
    """UserError if the other set is not there, or for a kind that cannot be made and of which there is no file."""
    plugin, options = other_of(config)
    if hasattr(plugin, "check_root"):
        plugin.check_root(options, root)
    if config.corruption in ONLY_IN_FILES and not reads_files(config, root):
        raise UserError(
            f"corruption is {config.corruption!r}, which is not made but read, for of: {{name: cifar10}}, from {FILES}/"
            f"{config.corruption}.npy and {FILES}/labels.npy under {root}; valid without them: {', '.join(_corruptions.CONSTANTS)}"
        )


def raw_files(config: Config, root: Path, split: str) -> list[str | Path]:
    """Those of the other set; of the test split also CIFAR-10-C's, which are read once they are there."""
    return [*raw_paths(config.of, root, split), *(files_of(config, root) if split == "test" else [])]


def has_split(config: Config, root: Path, split: str) -> bool:
    plugin, options = other_of(config)
    return split in plugin.SPLITS and (not hasattr(plugin, "has_split") or plugin.has_split(options, root, split))


def has_labels(config: Config, root: Path, split: str) -> bool:
    plugin, options = other_of(config)
    return not hasattr(plugin, "has_labels") or plugin.has_labels(options, root, split)


def load(config: Config, root: Path | None, split: str) -> Source:
    """The other set's split; of the test split each image is corrupted by a function of (split_seed, number), photographs as PNG.

    The random numbers of an image are the same for every severity.
    """
    root = root or Path("data")
    check_root(config, root)
    plugin, options = other_of(config)
    source = plugin.load(options, root, split)
    if split != "test":
        return source
    words = f"{config.corruption} of severity {config.severity}"
    if reads_files(config, root):
        return from_files(config, root, source.classes, f"{words}, official")
    if source.shape and source.shape[0] == 1 and config.corruption == "saturate":
        raise UserError(f"corruption is 'saturate', and {config.of['name']} has no colours; valid: any other")

    def read(number: int) -> Sample:
        sample = source.read(number)
        generator = np.random.default_rng(mixed_seed(config.split_seed, number))
        if source.format == "uint8":
            image = sample.image.transpose(1, 2, 0)
            sample.image = _corruptions.corrupted(image, config.corruption, config.severity, generator).transpose(2, 0, 1)
            return sample
        image, out = np.asarray(Image.open(io.BytesIO(sample.image)).convert("RGB")), io.BytesIO()
        Image.fromarray(_corruptions.corrupted(image, config.corruption, config.severity, generator)).save(out, "PNG")
        sample.image = out.getvalue()
        return sample

    listing = source.listing + f"{words} {config.split_seed}".encode()
    return replace(source, read=read, listing=listing, split_rule=f"{source.split_rule}; {words}, made, seed {config.split_seed}")


def from_files(config: Config, root: Path, classes: list[str], rule: str) -> Source:
    """The 10,000 images of a severity in CIFAR-10-C's files; UserError for files of another shape."""
    images, labels = (np.load(file, mmap_mode="r") for file in files_of(config, root))
    for file, found, shape in zip(files_of(config, root), (images, labels), ((5 * IMAGES, 32, 32, 3), (5 * IMAGES,)), strict=True):
        if found.shape != shape or found.dtype != np.uint8:
            raise UserError(f"{file} holds {found.dtype} of shape {found.shape}; expected uint8 of shape {shape}")
    rows = slice((config.severity - 1) * IMAGES, config.severity * IMAGES)
    source = source_of(images[rows].transpose(0, 3, 1, 2), np.array(labels[rows]), classes, config, "test")
    return replace(source, listing=source.listing + rule.encode(), split_rule=rule)
