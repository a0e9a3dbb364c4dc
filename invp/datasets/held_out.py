"""Another data set's training images in two parts: train, and for test a seeded share that is held out, so that choices need no test image."""

from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from invp.core.selection import mixed_seed
from invp.datasets._source import BaseConfig, Sample, Source
from invp.plumbing.config import instance
from invp.plumbing.errors import UserError
from invp.plumbing.options import option
from invp.plumbing.plugins import load_plugin
from invp.plumbing.raw_data import raw_paths

SPLITS = ("train", "test")
STREAM = 0x4E1D


@dataclass
class Config(BaseConfig):
    """Another set's training images alone, of which a share is held out as the test split: to choose options by."""

    of: dict[str, Any] = option(help="the other set, as any data set is given: {name: cifar10}, with its options")
    share: float = option(0.1, "of the training images that is held out", above=0, below=1)
    BALANCED = False  # the other set may be


def other_of(config: Config) -> tuple[ModuleType, Any]:
    """The module of the other set, and its options."""
    plugin = load_plugin("datasets", config.of["name"])
    return plugin, instance(plugin.Config, config.of)


def check_root(config: Config, root: Path) -> None:
    """UserError if the other set is not there."""
    plugin, options = other_of(config)
    if hasattr(plugin, "check_root"):
        plugin.check_root(options, root)


def raw_files(config: Config, root: Path, split: str) -> list[str | Path]:
    """Those of the other set's training images, for both splits."""
    return raw_paths(config.of, root, "train")


def has_labels(config: Config, root: Path, split: str) -> bool:
    plugin, options = other_of(config)
    return not hasattr(plugin, "has_labels") or plugin.has_labels(options, root, "train")


def load(config: Config, root: Path | None, split: str) -> Source:
    """The part of the other set's training images that the split is, in their order. UserError if one of the parts has no image."""
    root = root or Path("data")
    check_root(config, root)
    plugin, options = other_of(config)
    source = plugin.load(options, root, "train")
    count = round(config.share * source.num_samples)
    if not 0 < count < source.num_samples:
        raise UserError(f"share is {config.share}; valid: what leaves some of the {source.num_samples} images on both sides")
    order = np.random.default_rng(mixed_seed(STREAM, config.split_seed)).permutation(source.num_samples)
    chosen = np.sort(order[:count] if split == "test" else order[count:])

    def read(number: int) -> Sample:
        return source.read(int(chosen[number]))

    rule = f"{source.split_rule}; of its train {config.share:g} held out for test, seed {config.split_seed}"
    return replace(source, num_samples=len(chosen), read=read, listing=source.listing + chosen.tobytes(), split_rule=rule)
