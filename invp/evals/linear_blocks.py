"""Linear classification on every block of the encoder, all from one pass over the images; the best block is the protocol of Table 1.

B batch, C channels of a block, F features, N images.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from invp.core.metrics import accuracy_by_class, confusion_matrix, topk_accuracy
from invp.data import Shards, eval_batches
from invp.errors import UserError
from invp.evals import linear

NEEDS = "encoder"


@dataclass
class Config(linear.Grid):
    """`pool`: `global` averages each map; `published` averages it to s x s: 12, 6, 4, 3 and 1 for 64, 256, 512, 1024 and 2048 channels."""

    pool: str = "global"
    read_batch: int = 256


def check(config: Config) -> None:
    if config.pool not in ("global", "published"):
        raise UserError(f"pool is {config.pool!r}; valid: global, published")


def pooled(maps: Tensor, config: Config) -> Tensor:
    """A block's maps BxCxHxW as BxF: averaged over the whole, or to s x s, which makes about 9,216 numbers of all but the widest."""
    side = 1 if config.pool == "global" or maps.shape[1] >= 2048 else round(math.sqrt(9216 / maps.shape[1]))
    return F.adaptive_avg_pool2d(maps, max(1, min(side, maps.shape[2]))).flatten(1)


@torch.no_grad()
def block_features(inputs, folder: Path, config: Config, device: str) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Features of every block (float16, NxF by name) and labels N of a prepared split, from one pass."""
    shards = Shards(folder)
    if (shards.labels < 0).any():
        raise UserError(f"{folder} has images without a label: linear_blocks needs labels")
    encoder = inputs.encoder.to(device).eval()
    found: dict[str, list[np.ndarray]] = {name: [] for name in encoder.block_names}
    normal = {"mean": inputs.mean, "std": inputs.std, "device": device}
    for _, images in eval_batches(shards, size=inputs.size, batch_size=config.read_batch, **normal):
        for name, maps in zip(encoder.block_names, encoder.blocks(images), strict=True):
            found[name].append(pooled(maps.float(), config).half().cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}, shards.labels.numpy()


def evaluate(config: Config, inputs, *, seed: int, device: str) -> dict:
    """Top-1 in % of every block, and top-1 and top-5 of the block that was best on held-out training images."""
    check(config)
    train, labels = block_features(inputs, inputs.train, config, device)
    test, truth = block_features(inputs, inputs.test, config, device)
    on_device, found, metrics = torch.from_numpy(labels).to(device), {}, {}
    for name in train:
        rows = (torch.from_numpy(part[name]).float().to(device) for part in (train, test))
        found[name] = linear.probe(config, *rows, on_device, len(inputs.classes), seed)
        metrics[f"top1_{name}"] = topk_accuracy(found[name].scores, truth, 1)
    best = max(found, key=lambda name: max(found[name].accuracies))
    metrics |= {f"top{k}": topk_accuracy(found[best].scores, truth, k) for k in (1, 5)}
    confusion = confusion_matrix(found[best].scores.argmax(1), truth, len(inputs.classes))
    return {
        "metrics": metrics | {"validation_top1": 100 * max(found[best].accuracies)},
        "protocol": {
            "kind": "linear classifiers on every block, one pass over the images",
            "features": f"{len(train)} blocks, {config.pool} pooling, standardised; best on held-out images: {best}",
            "differs": "published: random crops in 120 epochs of SGD at rate 1.0, batch normalisation before each head, best block on test",
            **linear.card(config, found[best].chosen, found[best].held, len(labels), len(truth), seed),
        },
        "details": {
            "classes": inputs.classes,
            "confusion": confusion.tolist(),
            "accuracy_by_class": accuracy_by_class(confusion),
            "blocks": [
                {
                    "block": name,
                    "features": int(train[name].shape[1]),
                    "validation_top1": 100 * max(each.accuracies),
                    "top1": metrics[f"top1_{name}"],
                    "learning_rate": each.chosen[0],
                    "weight_decay": each.chosen[1],
                }
                for name, each in found.items()
            ],
        },
    }
