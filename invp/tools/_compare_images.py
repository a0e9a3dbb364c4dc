"""What lies in a user's folder of images, for `compare`: its splits and classes, and the sizes and colours of a sample. C channels."""

import io
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from invp.plumbing.config import data_root, instance
from invp.plumbing.errors import UserError
from invp.plumbing.plugins import load_plugin

SMALL = 64  # pixels of a side up to which equal-sized images are kept as pixels, as `decode` of image_folder has it
TEST_SHARE, LARGEST_TEST = 0.2, 10_000  # of each class, and images in all at most, that are held out where there is no test split
SAMPLED = 300  # images whose size and colours are looked at
FEWEST = 64  # training images


@dataclass
class Images:
    """A folder of images as an experiment is told of it."""

    root: Path  # the data root from which `dataset` counts
    dataset: dict[str, Any]  # the section without `id`
    number: int  # training images
    held_out: int  # test images
    classes: int  # 0 without labels
    side: int  # the median short side of a sample, in pixels; of equal small images the long one
    mean: list[float]  # of each channel of the sample
    std: list[float]
    unusable: int  # images of the sample that cannot be used, and will be left out

    @property
    def split(self) -> str:
        """How the test images came about, in words."""
        share = self.dataset.get("test_share")
        return f"a seeded share of {share:g} of each class, held out" if share else f"the folder {self.dataset['test']}"


def name_of(folder: Path) -> str:
    """The folder's name as part of an experiment's: letters, digits, '-' and '_'."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", folder.name).strip("-_") or "images"


def look(folder: Path) -> Images:
    """What lies in a folder of images; UserError if it is none, or has too few.

    `train`, and `test` or `val`, are taken as they are named. Without `train` the folders in it are classes, or it holds images without
    labels; without a test split a seeded share is held out.
    """
    if not folder.is_dir():
        raise UserError(f"--data is {folder}, which is no folder; valid: a folder of images, or of folders of images a class")
    folder = Path(os.path.abspath(folder))
    root = data_root().absolute()
    root = root if folder.is_relative_to(root) and folder != root else folder.parent
    options: dict[str, Any] = {"name": "image_folder", "folder": str(folder.relative_to(root)), "on_bad_image": "skip"}
    options["train"] = "train" if (folder / "train").is_dir() else "."
    official = [name for name in ("test", "val") if options["train"] == "train" and (folder / name).is_dir()]
    options |= {"test": official[0]} if official else {"test_share": TEST_SHARE}
    train = _source(options, root, "train")
    if not official and train.num_samples * TEST_SHARE / (1 - TEST_SHARE) > LARGEST_TEST:
        whole = train.num_samples / (1 - TEST_SHARE)
        options["test_share"] = round(LARGEST_TEST / whole, 4)
        train = _source(options, root, "train")
    if train.num_samples < FEWEST:
        raise UserError(f"{folder} has {train.num_samples} training images; valid: at least {FEWEST}")
    return _with_sample(options, root, train, _source(options, root, "test").num_samples)


def _source(options: dict, root: Path, split: str) -> Any:
    plugin = load_plugin("datasets", "image_folder")
    return plugin.load(instance(plugin.Config, options), root, split)


def _with_sample(options: dict, root: Path, train: Any, held_out: int) -> Images:
    """Looks at a seeded sample of the training images: how they are kept follows from their sizes."""
    chosen = np.random.default_rng(0).permutation(train.num_samples)[:SAMPLED]
    sizes, sums, unusable = [], [], 0
    for number in chosen.tolist():
        try:
            image = Image.open(io.BytesIO(train.read(number).image)).convert("RGB")
        except UserError:  # it is left out, as `on_bad_image: skip` has it
            unusable += 1
            continue
        sizes.append(image.size)
        levels = np.asarray(image.resize((32, 32)) if min(image.size) > SMALL else image, np.float64).reshape(-1, 3) / 255
        sums.append([levels.mean(0), np.square(levels).mean(0)])
    if not sizes:
        raise UserError(f"none of {len(chosen)} images of {root / options['folder']} can be read; docs/data.md says what can")
    mean, square = np.mean(sums, 0)
    std = np.sqrt(np.maximum(square - mean**2, 1e-4))
    side = int(np.median([min(size) for size in sizes]))
    if len(set(sizes)) == 1 and max(sizes[0]) <= SMALL:
        options, side = {**options, "decode": True}, max(sizes[0])
    return Images(
        root,
        options,
        train.num_samples,
        held_out,
        len(train.classes),
        side,
        mean.round(4).tolist(),
        std.round(4).tolist(),
        unusable,
    )


def section_of(images: Images, identifier: str, size: int) -> dict[str, Any]:
    """The section `dataset`: photographs much larger than `size`, the side of a view, are kept at twice as many pixels."""
    shrunk = {} if images.dataset.get("decode") or images.side <= 2 * size else {"short_side": 2 * size}
    return {**images.dataset, "id": identifier, **shrunk}
