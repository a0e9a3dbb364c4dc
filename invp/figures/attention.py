"""What a transformer's class token attends to in test images, as in DINO (Caron et al., ICCV 2021). N images, h heads, L patches."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.data.shards import Shards
from invp.figures._inputs import FigureInputs
from invp.figures._style import plotting, save
from invp.figures._transformers import need_a_transformer, pixels_of
from invp.plumbing.options import option

NEEDS = ("encoder",)
UNLABELLED = True
MULTI_LABEL = True
DIM = 0.25  # what is left of the pixels outside of a mask; the rest is grey


@dataclass
class Config:
    """Test images, chosen by a seed of their own: the same ones for every run of a data set."""

    images: int = option(4, "test images; all if they are fewer", least=1)
    seed: int = option(0, "of the choice of images", least=0)
    mass: float = option(0.6, "share of a head's attention that its mask has at least", above=0, most=1)


def check_encoder(config: Config, encoder: dict) -> None:
    """UserError for an encoder without attention."""
    need_a_transformer("attention", encoder)


def smallest_with(attention: np.ndarray, mass: float) -> np.ndarray:
    """A mask ...xL of the fewest patches that have at least the share `mass` of the attention ...xL; of equal ones the first come first."""
    order = np.argsort(-attention, axis=-1, kind="stable")
    falling = np.take_along_axis(attention, order, -1)
    before = falling.cumsum(-1) - falling
    kept = before < mass * attention.sum(-1, keepdims=True)
    mask = np.zeros(attention.shape, bool)
    np.put_along_axis(mask, order, kept, -1)
    return mask


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws two rows for each image: how much the class token attends to each patch, in a column for each head of the last block, each with
    its own scale; and below the image, grey outside of the head's mask.

    Returns the images' numbers, the attention of each head to each patch (N x h x L, each L summing to 1), and the masks' shares of patches.
    """
    import torch  # which is here already, with the encoder

    total = Shards(inputs.dataset["test"]).num_samples
    numbers = np.sort(np.random.default_rng(config.seed).permutation(total)[: config.images])
    with torch.no_grad():
        images = inputs.test_images(torch.from_numpy(numbers))
        found = inputs.encoder.attention(images)[:, :, 0, inputs.encoder.prefix :].double().numpy()
    found /= found.sum(-1, keepdims=True)  # the rest is of the class token and the registers
    mask = smallest_with(found, config.mass)
    side = inputs.encoder.patch
    grid = (*found.shape[:2], images.shape[2] // side, images.shape[3] // side)
    pixels = pixels_of(inputs, images)
    pyplot = plotting()
    size = (1.05 * (1 + grid[1]) + 0.3, 2.1 * len(numbers) + 0.8)
    figure, panels = pyplot.subplots(2 * len(numbers), 1 + grid[1], figsize=size, squeeze=False, layout="constrained")
    for axes in panels.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for upper, lower, image, maps, masks in zip(
        panels[::2], panels[1::2], pixels, found.reshape(grid), mask.reshape(grid), strict=True
    ):
        upper[0].imshow(image)
        for axes, below, values, kept in zip(upper[1:], lower[1:], maps, masks, strict=True):
            axes.imshow(values, interpolation="nearest", cmap="inferno", vmin=0)
            large = np.kron(kept, np.ones((side, side)))[:, :, None]
            below.imshow(large * image + (1 - large) * (DIM * image + (1 - DIM) / 2))
    for number, axes in enumerate(panels[0, 1:]):
        axes.set_title(f"head {number}", fontsize=8)
    epoch = inputs.experiment["stage"]
    figure.supxlabel(
        f"{len(numbers)} of {total:,} test images, {f'epoch {epoch}' if epoch else 'untrained'}; below: {100 * config.mass:g} % of the "
        "attention",
        fontsize=7,
    )
    save(figure, inputs, out)
    return {"images": numbers.tolist(), "attention": found.tolist(), "mask_share": mask.mean(-1).tolist()}
