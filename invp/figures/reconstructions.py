"""Test images, and what the objective makes of them: what an autoencoder gives back, or how a context encoder fills a hole."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.data.shards import Shards
from invp.figures._inputs import FigureInputs
from invp.figures._style import plotting, save
from invp.plumbing.options import option

NEEDS = ("objective",)
UNLABELLED = True
MULTI_LABEL = True


@dataclass
class Config:
    """Test images, chosen by a seed of their own: the same ones for every run of a data set."""

    images: int = option(8, "test images; all if they are fewer", least=1)
    seed: int = option(0, "of the choice of images", least=0)


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws a row for each of the objective's pictures and a column for each image.

    Returns the images' numbers, the mean level of each picture, and its mean squared error against the picture `input`, if there is one.
    """
    import torch  # which is here already, with the objective

    total = Shards(inputs.dataset["test"]).num_samples
    numbers = np.sort(np.random.default_rng(config.seed).permutation(total)[: config.images])
    index = torch.from_numpy(numbers)
    with torch.no_grad():
        made = inputs.objective.pictures(inputs.test_images(index), index)
    pictures = {name: picture.double().permute(0, 2, 3, 1).numpy() for name, picture in made.items()}
    pyplot = plotting()
    size = (0.95 * max(3, len(numbers)) + 0.4, 0.98 * len(pictures) + 0.7)
    figure, panels = pyplot.subplots(len(pictures), len(numbers), figsize=size, squeeze=False, layout="constrained")
    for row, (name, picture) in zip(panels, pictures.items(), strict=True):
        for axes, pixels in zip(row, picture, strict=True):
            axes.imshow(pixels, vmin=0, vmax=1)
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
        row[0].set_ylabel(name, fontsize=8)
    epoch = inputs.experiment["stage"]
    figure.supxlabel(f"{len(numbers)} of {total:,} test images, {f'epoch {epoch}' if epoch else 'untrained'}", fontsize=7)
    save(figure, inputs, out)
    data = {"images": numbers.tolist(), "mean": {name: picture.mean((1, 2, 3)).tolist() for name, picture in pictures.items()}}
    if "input" in pictures:
        errors = {
            name: np.square(picture - pictures["input"]).mean((1, 2, 3)) for name, picture in pictures.items() if name != "input"
        }
        data["error"] = {name: error.tolist() for name, error in errors.items()}
    return data
