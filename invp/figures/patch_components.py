"""The patches of a class's test images by their principal components, as in DINOv2 (Oquab et al., TMLR 2024).

N images, L patches of one, P patches of all, F numbers of a patch's token.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.data.shards import Shards
from invp.figures._inputs import FigureInputs
from invp.figures._style import plotting, save, shown
from invp.figures._transformers import need_a_transformer, pixels_of
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

NEEDS = ("encoder",)


@dataclass
class Config:
    """Test images of one class, chosen by a seed of their own: the same ones for every run of a data set."""

    label: int = option(0, "number of the class", least=0)
    images: int = option(8, "test images of it; all if they are fewer", least=1)
    seed: int = option(0, "of the choice of images", least=0)
    threshold: float = option(
        0.5, "where between its least and its largest value the first component divides fore- from background", above=0, below=1
    )


def check_encoder(config: Config, encoder: dict) -> None:
    """UserError for an encoder without patches."""
    need_a_transformer("patch-components", encoder)


def components(rows: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The first principal components of rows PxF: their values Px`count`, and their shares of the variance; 0 where there are no more.

    Of each component the side with the largest value is the positive one.
    """
    centred = rows - rows.mean(0)
    left, scale, _ = np.linalg.svd(centred, full_matrices=False)
    found, shares = np.zeros((len(rows), count)), np.zeros(count)
    own = min(count, len(scale))
    found[:, :own] = left[:, :own] * scale[:own]
    shares[:own] = scale[:own] ** 2 / max(np.square(scale).sum(), np.finfo(float).tiny)
    signs = np.sign(found[np.abs(found).argmax(0), np.arange(count)])
    return found * np.where(signs < 0, -1, 1), shares


def scaled(values: np.ndarray) -> np.ndarray:
    """Columns from their least value, 0, to their largest, 1."""
    low, high = values.min(0), values.max(0)
    return (values - low) / np.maximum(high - low, np.finfo(float).tiny)


def coloured(patches: np.ndarray, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Colours Px3 of patches PxF, which of them are foreground, and the shares of the three colours' components in the variance.

    What lies above the threshold on the first component of all patches is foreground: its own three first components are red, green and
    blue. The background is black.
    """
    first, _ = components(patches, 1)
    front = scaled(first)[:, 0] > threshold
    colours = np.zeros((len(patches), 3))
    own, shares = components(patches[front], 3)
    colours[front] = scaled(own)
    return colours, front, shares


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws a column for each image, and below it its patches in the colours of their components, which all images share.

    Returns the images' numbers, the class, the colours (N x L x 3), the share of foreground of each image, and the components' shares of
    the foreground's variance.
    """
    import torch  # which is here already, with the encoder

    shards = Shards(inputs.dataset["test"])
    of_class = np.flatnonzero(shards.labels.numpy() == config.label)
    if not len(of_class):
        raise UserError(f"label is {config.label}; valid: the number of a class with test images, of {len(shards.classes)}")
    numbers = np.sort(np.random.default_rng(config.seed).permutation(of_class)[: config.images])
    with torch.no_grad():
        images = inputs.test_images(torch.from_numpy(numbers))
        patches = inputs.encoder.tokens(images)[:, inputs.encoder.prefix :].double().numpy()
    colours, front, shares = coloured(patches.reshape(-1, patches.shape[2]), config.threshold)
    side = inputs.encoder.patch
    maps = colours.reshape(len(numbers), images.shape[2] // side, images.shape[3] // side, 3)
    pyplot = plotting()
    figure, panels = pyplot.subplots(
        2, len(numbers), figsize=(0.95 * max(4, len(numbers)), 2.8), squeeze=False, layout="constrained"
    )
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for column, image, patch in zip(panels.T, pixels_of(inputs, images), maps, strict=True):
        column[0].imshow(image)
        column[1].imshow(patch, interpolation="nearest")
    epoch, name = inputs.experiment["stage"], shards.classes[config.label]
    figure.supxlabel(
        f"{len(numbers)} of {len(of_class):,} test images of {shown(name)}, {f'epoch {epoch}' if epoch else 'untrained'}",
        fontsize=7,
    )
    save(figure, inputs, out)
    return {
        "images": numbers.tolist(),
        "class": name,
        "colours": colours.reshape(len(numbers), -1, 3).tolist(),
        "foreground": front.reshape(len(numbers), -1).mean(1).tolist(),
        "variance": shares.tolist(),
    }
