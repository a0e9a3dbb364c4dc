"""Linear classification on every block of the encoder, all from one pass over the images; the best block is the protocol of Table 1.

B batch, C channels of a block, F features, N images.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from invp.core.metrics import accuracy, accuracy_by_class, confusion_matrix, topk_right
from invp.data.augment import Augment
from invp.data.batches import epoch_order, eval_batches, train_batches
from invp.data.shards import Shards
from invp.evals import linear
from invp.evals._inputs import EncoderInputs
from invp.plumbing.errors import UserError
from invp.plumbing.metrics import PERCENT
from invp.plumbing.options import option
from invp.plumbing.progress import Progress
from invp.plumbing.sections import Augmentation

NEEDS = "encoder"
METRICS = {"top*": PERCENT, "validation_top1": PERCENT}
DIFFERS = (
    "the block is chosen on held-out training images (published: on the test images, of the last four of 17)",
    linear.AT_ZERO,
)
DIFFERS_CACHED = (
    "`crops: cached`: features of whole images or central crops, rate and decay chosen with the block, cosine"
    " (published: random crops and flips, 120 epochs, rate 1.0, no decay, a tenth after 50, 80 and 100)",
    linear.STANDARDISED,
)
DIFFERS_FRESH = (
    "`crops: fresh`: trained on the images that are not held out (published: on all)",
    "`crops: fresh`: batch normalisation without weights, by batch statistics"
    " (published: with weights, but in evaluation mode all along, so that its mean stays 0 and its variance 1)",
    "`crops: fresh`: an epoch's last, smaller batch is dropped (published: kept)",
)


@dataclass
class Config(linear.Grid):
    """A linear classifier on every block of the encoder."""

    pool: str = option(
        "global",
        "global: the mean of each map; published: 12, 6, 4, 3 and 1 squared for 64, 256, 512, 1024 and 2048 channels",
        choices=("global", "published"),
    )
    read_batch: int = option(256, "images in a pass of the encoder", least=1)
    crops: str = option(
        "cached",
        "cached: features of whole or central crops, once; fresh: random crops and flips in every epoch, as published",
        choices=("cached", "fresh"),
    )
    crop_scale: list[float] = option([0.08, 1.0], "a fresh crop's share of the area", above=0, most=1, length=2, rising=True)
    flip: bool = option(True, "mirror half of the fresh crops")
    drops: list[int] = option([50, 80, 100], "epochs after which the rate of fresh crops is a tenth", least=0, rising=True)


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
    for _, images in eval_batches(shards, size=inputs.size, batch_size=config.read_batch, workers=inputs.workers, **normal):
        for name, maps in zip(encoder.block_names, encoder.blocks(images), strict=True):
            found[name].append(pooled(maps.float(), config).half().cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in found.items()}, shards.labels.numpy()


class Blocks:
    """The heads of every block, each behind a batch normalisation without weights of its own; they are made for the first batch."""

    def __init__(self, config: Config, encoder: torch.nn.Module, num_classes: int, device: str):
        self.config, self.num_classes, self.device = config, num_classes, device
        self.encoder = encoder.to(device).eval()
        self.heads: dict[str, linear.Heads] = {}
        self.norms: dict[str, torch.nn.BatchNorm1d] = {}

    def maps(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The name of every block with its pooled features BxF."""
        for name, maps in zip(self.encoder.block_names, self.encoder.blocks(images), strict=True):
            yield name, pooled(maps.float(), self.config)

    def add(self, name: str, num_features: int) -> None:
        """Heads at zero for a block."""
        self.heads[name] = linear.Heads(num_features, self.num_classes, self.config.pairs(), self.device)
        self.norms[name] = torch.nn.BatchNorm1d(num_features, affine=False).to(self.device)

    def step(self, images: Tensor, labels: Tensor, scale: float) -> None:
        """A step of all heads on a batch."""
        for name, features in self.maps(images):
            if name not in self.heads:
                self.add(name, features.shape[1])
            self.heads[name].step(self.norms[name](features), labels, scale)

    def scores(self, images: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The name of every block with the scores of its heads, BxCxG."""
        for name, features in self.maps(images):
            yield name, self.heads[name].scores(self.norms[name].eval()(features))

    def state(self) -> dict:
        """What is trained, by block: tensors of the heads and the state of the normalisation."""
        return {name: {"heads": _tensors(heads), "norm": self.norms[name].state_dict()} for name, heads in self.heads.items()}

    def restore(self, state: dict) -> None:
        """Takes up what `state` gave."""
        for name, own in state.items():
            self.add(name, len(own["heads"][0]))
            for tensor, value in zip(_tensors(self.heads[name]), own["heads"], strict=True):
                tensor.copy_(value)
            self.norms[name].load_state_dict(own["norm"])


def _tensors(heads: linear.Heads) -> list[Tensor]:
    return [heads.weight, heads.bias, *heads.momenta]


@torch.no_grad()
def fresh_blocks(config: Config, inputs, shards: Shards, fitting: Tensor, *, seed: int, device: str) -> Blocks:
    """Every block's heads trained in one run over random crops of the images `fitting`."""
    labels = shards.labels.to(device)
    augmentation = Augment(
        Augmentation(size=inputs.size, crop_scale=config.crop_scale, flip=config.flip, mean=inputs.mean, std=inputs.std)
    )
    blocks, name = Blocks(config, inputs.encoder, len(shards.classes), device), "linear classifiers on fresh crops"
    batch_size, epoch, done = min(config.batch_size, len(fitting)), 0, 0
    per_epoch = len(fitting) // batch_size
    if saved := inputs.saves.begin(name):
        blocks.restore(saved["objective"])
        epoch, done = saved["epoch"], saved["step"]

    def state() -> dict:
        return {"objective": blocks.state(), "epoch": epoch, "step": done}

    progress = Progress(name, config.epochs * per_epoch, unit="step", done=epoch * per_epoch + done)
    while epoch < config.epochs:
        scale = 0.1 ** sum(epoch + 1 > drop for drop in config.drops)
        for step, index, (images,) in train_batches(
            shards, order=fitting[epoch_order(len(fitting), seed, epoch + 1)], batch_size=batch_size, start_step=done, rank=0, world_size=1,
            device=torch.device(device), augmentations=[augmentation], seed=seed, epoch=epoch + 1, workers=inputs.workers,
        ):  # fmt: skip
            blocks.step(images, labels[index.to(device)], scale)
            done = step + 1
            progress.update(1)
            inputs.saves.offer(name, state)
        epoch, done = epoch + 1, 0
    progress.close()
    inputs.saves.end(name, state)
    return blocks


@torch.no_grad()
def fresh_probes(config: Config, inputs, *, seed: int, device: str) -> tuple[dict[str, linear.Probe], int, int]:
    """Every block's heads trained in one run over random crops.

    The heads that were best on the held-out training images are measured; they have not seen those. Returns also the numbers of images
    trained on and held out.
    """
    shards, test = Shards(inputs.train), Shards(inputs.test)
    if (shards.labels < 0).any():
        raise UserError(f"{inputs.train} has images without a label: linear_blocks needs labels")
    order = torch.randperm(shards.num_samples, generator=torch.Generator().manual_seed(seed))
    held = max(1, round(config.validation_share * len(order)))
    validation, fitting = order[:held].sort().values, order[held:]
    blocks = fresh_blocks(config, inputs, shards, fitting, seed=seed, device=device)

    def scores(split: Shards, head: slice | dict[str, int], wanted: torch.Tensor | None = None) -> dict[str, torch.Tensor]:
        found: dict[str, list[torch.Tensor]] = {name: [] for name in blocks.heads}
        keep = torch.ones(split.num_samples, dtype=torch.bool)
        if wanted is not None:
            keep = torch.zeros_like(keep).index_fill_(0, wanted, True)
        options = {"size": inputs.size, "batch_size": config.read_batch, "workers": inputs.workers, "device": device}
        for index, images in eval_batches(split, **options, mean=inputs.mean, std=inputs.std):
            if keep[index].any():
                for name, own in blocks.scores(images[keep[index].to(device)]):
                    found[name].append(own.argmax(1).cpu() if isinstance(head, slice) else own[..., head[name]].cpu())
        return {name: torch.cat(parts) for name, parts in found.items()}

    answers = scores(shards, slice(None), validation)
    right = {name: (own == shards.labels[validation, None]).float().mean(0) for name, own in answers.items()}
    best = {name: int(shares.argmax()) for name, shares in right.items()}
    tested, grid = scores(test, best), config.pairs()
    probes = {name: linear.Probe(tested[name].numpy(), grid[best[name]], right[name].tolist(), held) for name in tested}
    return probes, len(fitting), held


def evaluate_fresh(config: Config, inputs, *, seed: int, device: str) -> dict:
    """As `evaluate`, with random crops in every epoch."""
    found, trained, held = fresh_probes(config, inputs, seed=seed, device=device)
    result = _result(config, inputs, found, Shards(inputs.test).labels.numpy())
    result["protocol"] = {
        "kind": "linear classifiers on every block, random crops in every epoch",
        "features": f"{len(found)} blocks, {config.pool} pooling, batch-normalised; best on held-out images: {result['best']}",
        "optimiser": f"SGD, momentum 0.9, softmax loss, a tenth of the rate after {config.drops}",
        "epochs": config.epochs,
        "batch_size": min(config.batch_size, trained),
        "grid": f"{len(config.learning_rates)} learning rates x {len(config.weight_decays)} weight decays",
        "chosen": dict(zip(("learning_rate", "weight_decay"), found[result["best"]].chosen, strict=True)),
        "choice": f"block and pair best on {held} held-out training images (seed {seed}); trained on the other {trained}; last epoch",
        "differs": "; ".join(DIFFERS + DIFFERS_FRESH),
        "test_images": result.pop("test_images"),
        "crop": f"random crops {config.crop_scale} and flip {'on' if config.flip else 'off'} in training, whole or central in the test",
    }
    result.pop("best")
    return result


def _result(config: Config, inputs, found: dict[str, linear.Probe], truth: np.ndarray) -> dict:
    """Metrics and details of the blocks' probes, with the best block's name."""
    best = max(found, key=lambda name: max(found[name].accuracies))
    right = {f"top1_{name}": topk_right(each.scores, truth, 1) for name, each in found.items()}
    right |= {f"top{k}": topk_right(found[best].scores, truth, k) for k in (1, 5)}
    metrics = {name: accuracy(own) for name, own in right.items()}
    confusion = confusion_matrix(found[best].scores.argmax(1), truth, len(inputs.classes))
    return {
        "metrics": metrics | {"validation_top1": 100 * max(found[best].accuracies)},
        "details": {
            "classes": inputs.classes,
            "confusion": confusion.tolist(),
            "accuracy_by_class": accuracy_by_class(confusion),
            "blocks": [
                {
                    "block": name,
                    "validation_top1": 100 * max(each.accuracies),
                    "top1": metrics[f"top1_{name}"],
                    "learning_rate": each.chosen[0],
                    "weight_decay": each.chosen[1],
                }
                for name, each in found.items()
            ],
        },
        "answers": {name: own.tolist() for name, own in right.items()},
        "best": best,
        "test_images": len(truth),
    }


def evaluate(config: Config, inputs: EncoderInputs, *, seed: int, device: str) -> dict:
    """Top-1 in % of every block, and top-1 and top-5 of the block that was best on held-out training images."""
    if config.crops == "fresh":
        return evaluate_fresh(config, inputs, seed=seed, device=device)
    train, labels = block_features(inputs, inputs.train, config, device)
    test, truth = block_features(inputs, inputs.test, config, device)
    on_device, found = torch.from_numpy(labels).to(device), {}
    for name in train:
        rows = (torch.from_numpy(part[name]).float().to(device) for part in (train, test))
        found[name] = linear.probe(config, *rows, on_device, len(inputs.classes), seed)
    result = _result(config, inputs, found, truth)
    best, images = result.pop("best"), result.pop("test_images")
    for row in result["details"]["blocks"]:
        row["features"] = int(train[row["block"]].shape[1])
    result["protocol"] = {
        "kind": "linear classifiers on every block, one pass over the images",
        "features": f"{len(train)} blocks, {config.pool} pooling, standardised; best on held-out images: {best}",
        "differs": "; ".join(DIFFERS + DIFFERS_CACHED),
        **linear.card(config, found[best].chosen, found[best].held, len(labels), images, seed),
    }
    return result
