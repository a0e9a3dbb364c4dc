"""Measures of the features of training images that need no label: RankMe, uniformity, and of augmented views alignment and LiDAR.

N training images, n images, q views of each, D numbers of a feature.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from invp.core.ranks import ROWS, alignment, lidar, rankme, uniformity
from invp.data.augment import Augment
from invp.data.batches import eval_batches, train_batches
from invp.data.shards import Shards
from invp.evals._inputs import EncoderInputs
from invp.plumbing.errors import UserError
from invp.plumbing.metrics import Metric
from invp.plumbing.options import option
from invp.plumbing.sections import Augmentation

NEEDS = "encoder"
SPLITS = ("train",)
UNLABELLED = True
MULTI_LABEL = True
# None is better where it is higher or lower: a network can have any of them by being bad in another way.
METRICS = {"rankme": Metric("dimensions", ""), "lidar": Metric("dimensions", ""), "*": Metric("", "")}
BATCH = 8  # images whose views are in memory at a time
DIFFERS = (
    "views are random crops and flips, the same for every network (published: for alignment those of the training, for LiDAR not known to us)",
    "uniformity is of images without augmentation (published: of augmented views)",
    "LiDAR is written after its formula, by default with 50 views of 1,000 images (published: its code was not to be had)",
)


@dataclass
class Config:
    """Seeded training images as they are, and some of them in several views."""

    images: int = option(ROWS, "of which RankMe and uniformity are measured, at most", least=2)
    viewed: int = option(1000, "images of which views are made, at most", least=2)
    views: int = option(50, "of each of these", least=2)
    crop_scale: list[float] = option([0.2, 1.0], "a view's share of the area", above=0, most=1, length=2, rising=True)
    flip: bool = option(True, "mirror half of the views")
    features: str = option("embedding", "embedding: the head's output; feature: the encoder's", choices=("embedding", "feature"))
    read_batch: int = option(256, "images in a pass of the encoder", least=1)


@torch.no_grad()
def rows_of(config: Config, inputs: EncoderInputs, images: Tensor) -> Tensor:
    """The features of normalised images, BxD, as they come out of the network."""
    features = inputs.encoder(images)
    return (features if config.features == "feature" else inputs.head(features)).float().cpu()


def of_images(config: Config, inputs: EncoderInputs, shards: Shards, numbers: Tensor, device: str) -> np.ndarray:
    """The features of the images with these numbers, whole or their central crops: NxD."""
    options = {"size": inputs.size, "mean": inputs.mean, "std": inputs.std, "workers": inputs.workers, "device": device}
    batches = eval_batches(shards, batch_size=config.read_batch, numbers=numbers, **options)
    return torch.cat([rows_of(config, inputs, images) for _, images in batches]).numpy()


def of_views(config: Config, inputs: EncoderInputs, shards: Shards, numbers: Tensor, *, seed: int, device: str) -> np.ndarray:
    """The features of seeded views of the images with these numbers: n x q x D. A last, smaller batch of images is left out."""
    augmentation = Augment(
        Augmentation(size=inputs.size, crop_scale=config.crop_scale, flip=config.flip, mean=inputs.mean, std=inputs.std)
    )
    batches = train_batches(
        shards, order=numbers, batch_size=min(BATCH, len(numbers)), start_step=0, rank=0, world_size=1, device=torch.device(device),
        augmentations=[augmentation] * config.views, seed=seed, epoch=0, workers=inputs.workers,
    )  # fmt: skip
    found = []
    for _, index, views in batches:
        rows = torch.cat([rows_of(config, inputs, part) for part in torch.cat(views).split(config.read_batch)])
        found.append(rows.unflatten(0, (config.views, len(index))).transpose(0, 1))
    return torch.cat(found).numpy()


def evaluate(config: Config, inputs: EncoderInputs, *, seed: int, device: str) -> dict:
    """RankMe and LiDAR of the features, alignment and uniformity of unit features."""
    shards = Shards(inputs.train)
    if shards.num_samples < 2:
        raise UserError(f"{inputs.train} has {shards.num_samples} image; these measures compare images: at least 2")
    for network in filter(None, (inputs.encoder, inputs.head)):
        network.to(device).eval()
    order = torch.randperm(shards.num_samples, generator=torch.Generator().manual_seed(seed))
    rows = of_images(config, inputs, shards, order[: config.images], device)
    views = of_views(config, inputs, shards, order[: config.viewed], seed=seed, device=device)
    first, second = (F.normalize(torch.from_numpy(views[:, number]), dim=1).numpy() for number in (0, 1))
    return {
        "metrics": {
            "rankme": rankme(rows),
            "lidar": lidar(views),
            "alignment": alignment(first, second),
            "uniformity": uniformity(F.normalize(torch.from_numpy(rows), dim=1).numpy()),
        },
        "protocol": {
            "kind": "measures of features without labels; they compare stages and settings of one method, not methods",
            "features": "head's output" if config.features == "embedding" else "encoder's pooled output",
            "dimensions": rows.shape[1],
            "rankme_and_uniformity": f"{len(rows)} seeded training images of {shards.num_samples}, whole or central crop, no augmentation",
            "lidar_and_alignment": f"{len(views)} of them in {config.views} views, alignment in the first two",
            "views": f"random crops {config.crop_scale} and flip {'on' if config.flip else 'off'}",
            "choice": "nothing is chosen",
            "differs": "; ".join(DIFFERS),
        },
        "details": {},
    }
