"""Test images with the true class of each pixel and the answers of the evaluation `segmentation`."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from invp.data.masks import IGNORED, mask_of
from invp.figures._inputs import FigureInputs
from invp.figures._style import plotting, save, shown
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

NEEDS = ("metrics",)
EVALUATION = "segmentation"
UNLABELLED = True  # the images are those of the evaluation, whatever the network was trained on
MULTI_LABEL = True


@dataclass
class Config:
    """The test images whose answers the evaluations keep, by their option `pictures`."""

    images: int = option(6, "of each evaluation, at most", least=1)


def colours() -> np.ndarray:
    """VOC's colours of the class numbers, 256x3 uint8, but for what does not count, which is white.

    The bits of a number are dealt to red, green and blue in turn, the lowest bit as the highest of a colour.
    """
    numbers, found = np.arange(256), np.zeros((256, 3), np.uint8)
    for bit in range(8):
        found[:, bit % 3] |= (((numbers >> bit) & 1) << (7 - bit // 3)).astype(np.uint8)
    found[IGNORED] = 255
    return found


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws of each evaluation a row of images, of truths and of answers; returns its scores and, of each image, the share of right pixels in %."""
    kept = [
        content for content in inputs.metrics if content["evaluation"]["name"] == "segmentation" and content["details"]["pictures"]
    ]
    if not kept:
        raise UserError(
            "the figure segmentation shows answers of evaluations named segmentation with pictures above 0, and there are none"
        )
    columns = max(len(content["details"]["pictures"][: config.images]) for content in kept)
    pyplot, palette = plotting(), colours()
    size = (1.1 * max(4, columns) + 0.4, 3 * 1.08 * len(kept) + 1.2)
    figure, panels = pyplot.subplots(3 * len(kept), columns, figsize=size, squeeze=False, layout="constrained")
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    names: dict[int, str] = {}
    found = {}
    for row, content in enumerate(kept):
        right = []
        for axes, picture in zip(panels[3 * row : 3 * row + 3].T, content["details"]["pictures"][: config.images], strict=False):
            image, *masks = (base64.b64decode(picture[name]) for name in ("input", "truth", "answer"))
            truth, answer = map(mask_of, masks)
            axes[0].imshow(Image.open(io.BytesIO(image)))
            axes[1].imshow(palette[truth])
            axes[2].imshow(palette[answer])
            counts = truth != IGNORED
            right.append(100 * float((answer == truth)[counts].mean()) if counts.any() else None)
            names |= {int(c): shown(content["details"]["classes"][c]) for c in np.union1d(truth[counts], answer)}
        for axes, label in zip(panels[3 * row : 3 * row + 3, 0], ("input", "truth", f"{shown(content['eval'])}"), strict=True):
            axes.set_ylabel(label, fontsize=7)
        found[content["eval"]] = {
            "images": [p["image"] for p in content["details"]["pictures"]][: config.images],
            "right": right,
            **content["metrics"],
        }
    said = "; ".join(f"{shown(name)}: mIoU {own['miou']:.2f} %" for name, own in found.items())
    handles = [_patch(palette[c], name) for c, name in sorted(names.items())]
    figure.legend(
        handles=handles, loc="outside lower center", ncols=6, fontsize=6, frameon=False, title_fontsize=7,
        title=f"{said}; over all test images, white does not count",
    )  # fmt: skip
    save(figure, inputs, out)
    return found


def _patch(colour: np.ndarray, name: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(facecolor=colour / 255, edgecolor="#888888", label=name)
