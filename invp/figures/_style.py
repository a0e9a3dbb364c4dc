"""What the figures share: colours, bare axes, and images of a prepared split."""

from pathlib import Path
from typing import Any

import numpy as np

COLOURS = ("#0b6e6e", "#c8553d", "#6a4c93", "#e09f3e", "#3d6fb4", "#7a8b3a")


def plotting() -> Any:
    """matplotlib's pyplot, without a screen."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["text.parse_math"] = False  # class names are text from strangers: a $ is a dollar
    from matplotlib import pyplot

    return pyplot


def shown(name: str) -> str:
    """A class's or file's name as matplotlib shows it, on one line of at most 32 characters.

    A name that begins with '_' is preceded by a space of no width, since it would be kept out of a legend.
    """
    line = " ".join(name.split())
    line = line if len(line) <= 32 else f"{line[:31]}…"
    return f"\u200b{line}" if line.startswith("_") else line


def plain(*axes: Any) -> None:
    """Takes away the frame's upper and right line, and adds a faint grid."""
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(alpha=0.25)


def save(figure: Any, inputs: Any, out: Path) -> None:
    """Writes the PNG with the experiment's title above it."""
    figure.suptitle(inputs.experiment["title"] or inputs.experiment["experiment"])
    figure.savefig(out, dpi=130)
    plotting().close(figure)


def thumbnail(shards: Any, number: int, size: int = 64) -> np.ndarray:
    """An image of a prepared split, size x size x 3 uint8; the whole of it, squeezed to a square."""
    import torch
    from PIL import Image

    if shards.format == "uint8":
        pixels = shards.images(torch.tensor([number]))[0].permute(1, 2, 0).numpy()
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        return np.asarray(image.resize((size, size), Image.Resampling.NEAREST))
    return np.asarray(shards.decoded(number).resize((size, size), Image.Resampling.BILINEAR))


def sheet(axes: Any, images: list[np.ndarray], frames: list[str], captions: list[str]) -> None:
    """A row of images with coloured frames and a caption, of one line or more, below each."""
    axes.set_xlim(0, max(1, len(images)))
    axes.set_ylim(-0.25 - 0.17 * max((caption.count("\n") for caption in captions), default=0), 1)
    axes.axis("off")
    for i, (image, frame, caption) in enumerate(zip(images, frames, captions, strict=True)):
        axes.imshow(image, extent=(i + 0.06, i + 0.94, 0.06, 0.94), aspect="auto", zorder=2)
        from matplotlib.patches import Rectangle

        axes.add_patch(Rectangle((i + 0.03, 0.03), 0.94, 0.94, color=frame, zorder=1))
        axes.text(i + 0.5, -0.02, caption, ha="center", va="top", fontsize=7)
