"""Composite images with known position, size and rotation: real cut-outs on real backgrounds, as in Fig. 1E of the study in PNAS.

C, H, W: channels, height and width in pixels.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from invp.core.selection import mixed_seed
from invp.datasets._listing import ENDINGS
from invp.datasets._photos import needed
from invp.datasets._source import BaseConfig, Sample, Source
from invp.plumbing.errors import UserError
from invp.plumbing.options import option
from invp.plumbing.raw_data import below

SPLITS = ("train", "test")
TARGETS = ("x", "y", "size", "rotation", "variation")
# Of three variations, low to high: how far the centre may lie from the middle (of the half side), how the size may vary, degrees of rotation.
VARIATIONS = ((0.2, 0.1, 10.0), (0.4, 0.2, 30.0), (0.7, 0.35, 60.0))


@dataclass
class Config(BaseConfig):
    """Cut-outs at a known place, size and angle on photographs.

    No cut-out is in both splits; nor is a background, if there are at least four.
    """

    size: int = option(32, "pixels of a side", least=16, most=64)
    train_images: int = option(1500, "of the training split", least=1)
    test_images: int = option(500, "of the test split", least=1)
    cutouts: str = option(
        "", "folder under the data root with a folder a class, of images with an alpha channel or bright on black; empty: digits"
    )
    backgrounds: str = option("", "folder of photographs under the data root; empty: the two that scikit-learn has")
    mean_size: float = option(0.5, "of the cut-out's longer side in that of the image", least=0.1, most=0.7)
    BALANCED = False


def check_root(config: Config, root: Path) -> None:
    for folder in filter(None, (config.cutouts, config.backgrounds)):
        needed(root / folder, "composites", "folders of images")


def raw_files(config: Config, root: Path, split: str) -> list[str]:
    """All cut-outs and backgrounds: either split is a seeded part of them."""
    return [path for folder in filter(None, (config.cutouts, config.backgrounds)) for path in below(root / folder, ENDINGS)]


def _images(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS)
    if not found:
        raise UserError(f"{folder} holds no image ({', '.join(ENDINGS)})")
    return found


@cache
def digit_cutouts() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits, 1797x8x8 uint8, bright on black, and their labels."""
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    return (values * 255 / 16).astype(np.uint8).reshape(-1, 8, 8), labels


@cache
def photographs() -> list[np.ndarray]:
    """scikit-learn's two photographs, HxWx3 uint8."""
    from sklearn.datasets import load_sample_images

    return list(load_sample_images().images)


def with_alpha(image: Image.Image) -> Image.Image:
    """A cut-out as RGBA: with its own alpha, or, bright on black, with its brightness as one (opaque from a tenth on)."""
    if image.mode in ("RGBA", "LA"):
        return image.convert("RGBA")
    alpha = Image.fromarray(np.clip(np.asarray(image.convert("L"), np.float32) * 10, 0, 255).astype(np.uint8))
    result = image.convert("RGB").convert("RGBA")
    result.putalpha(alpha)
    return result


def _cutouts(config: Config, root: Path | None) -> tuple[list[str], np.ndarray, list]:
    """Classes, the label of each cut-out, and what opens it."""
    if not config.cutouts:
        values, labels = digit_cutouts()
        return [str(d) for d in range(10)], labels, list(values)
    folder = needed((root or Path("data")) / config.cutouts, "composites", "a folder of cut-outs a class")
    classes = sorted(p.name for p in folder.iterdir() if p.is_dir())
    paths = [path for name in classes for path in _images(folder / name)]
    return classes, np.array([classes.index(p.relative_to(folder).parts[0]) for p in paths]), list(paths)


def _backgrounds(config: Config, root: Path | None) -> list:
    if config.backgrounds:
        return list(_images(needed((root or Path("data")) / config.backgrounds, "composites", "a folder of photographs")))
    return photographs()


def _opened(what: np.ndarray | Path) -> Image.Image:
    return Image.fromarray(what) if isinstance(what, np.ndarray) else Image.open(what)


def composed(
    cutout: Image.Image, background: Image.Image, config: Config, generator: np.random.Generator
) -> tuple[np.ndarray, list[float]]:
    """A composite, uint8 3xHxW, and its TARGETS: centre (0 the middle, 1 the edge), size (share of the side), degrees, variation 0 to 2."""
    side = config.size
    variation = int(generator.integers(len(VARIATIONS)))
    far, stretch, turn = VARIATIONS[variation]
    x, y = generator.uniform(-far, far, 2)
    size = config.mean_size * generator.uniform(1 - stretch, 1 + stretch)
    rotation = generator.uniform(-turn, turn)
    edge = generator.uniform(0.3, 1.0) * min(background.size)
    left, top = generator.uniform(0, background.width - edge), generator.uniform(0, background.height - edge)
    scene = background.convert("RGB").resize((side, side), Image.Resampling.BILINEAR, (left, top, left + edge, top + edge))
    # Drawn four times as large, so that places between pixels are kept.
    fine, cutout = 4 * side, with_alpha(cutout)
    scale = size * fine / max(cutout.size)
    cutout = cutout.resize((max(1, round(cutout.width * scale)), max(1, round(cutout.height * scale))), Image.Resampling.BICUBIC)
    cutout = cutout.rotate(rotation, Image.Resampling.BICUBIC, expand=True)
    layer = Image.new("RGBA", (fine, fine))
    layer.paste(cutout, (round((1 + x) * fine / 2 - cutout.width / 2), round((1 + y) * fine / 2 - cutout.height / 2)))
    layer = layer.resize((side, side), Image.Resampling.BOX)
    scene.paste(layer, (0, 0), layer)
    return np.asarray(scene).transpose(2, 0, 1).copy(), [float(number) for number in (x, y, size, rotation, variation)]


def load(config: Config, root: Path | None, split: str) -> Source:
    """Composites that are a function of (split_seed, split, number)."""
    classes, labels, cutouts = _cutouts(config, root)
    backgrounds = _backgrounds(config, root)
    generator = np.random.default_rng(config.split_seed)
    order = generator.permutation(len(cutouts))
    held = max(1, len(cutouts) // 4)
    own = order[held:] if split == "train" else order[:held]
    if len(backgrounds) >= 4:
        order = generator.permutation(len(backgrounds))
        quarter = len(backgrounds) // 4
        backgrounds = [backgrounds[i] for i in (order[quarter:] if split == "train" else order[:quarter])]
    count = config.train_images if split == "train" else config.test_images

    def read(number: int) -> Sample:
        random = np.random.default_rng(mixed_seed(config.split_seed, SPLITS.index(split), number))
        which, behind = int(own[random.integers(len(own))]), int(random.integers(len(backgrounds)))
        pixels, targets = composed(_opened(cutouts[which]), _opened(backgrounds[behind]), config, random)
        return Sample(pixels, int(labels[which]), f"{split}/{number}: cut-out {which}, background {behind}", targets=targets)

    names = [str(c) if isinstance(c, Path) else "" for c in (*cutouts, *backgrounds)]
    listing = f"{config} {split} {names}".encode()
    rule = f"ours: a quarter of the cut-outs is for test images, seed {config.split_seed}"
    return Source(classes, count, read, listing, rule, "uint8", [3, config.size, config.size], targets=TARGETS)
