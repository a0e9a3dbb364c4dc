"""Object detection (Table 4): Faster R-CNN on the encoder's stages but the last, which is the head of the boxes (R50-C4), all weights trained.

The main numbers are VOC2007's; COCO's stand beside them.

B images, n objects of one.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection import FasterRCNN

from invp.core.selection import mixed_seed
from invp.data.batches import epoch_order, overlapped
from invp.data.decode import photograph
from invp.data.shards import Shards
from invp.evals._faster_rcnn import detector
from invp.evals._inputs import EncoderInputs
from invp.evals._voc_ap import THRESHOLDS, VOCPrecision
from invp.plumbing.encoder_options import RESNETS, VITS
from invp.plumbing.errors import UserError
from invp.plumbing.metrics import PERCENT
from invp.plumbing.options import option
from invp.plumbing.progress import Progress

NEEDS = "encoder"
METRICS = {"*ap*": PERCENT}
MULTI_LABEL = True
LOOK_EVERY = 10  # steps between looks at the loss
DIFFERS = (
    "batch statistics of one process, which pads all images of a batch to the largest and to multiples of 32"
    " (published: SyncBN over GPUs, each of which pads its own)",
    "the test uses running statistics (published: those of 200 training batches, PRECISE_BN)",
    "weight decay of all weights (published: not of batch normalisations)",
    "2,000 proposals an image before suppression, in the test 1,000 (published: 12,000 and 6,000)",
    "RoIAlign with 2 x 2 samples a cell and corners half a pixel off (published: samples by the region's size, aligned)",
    "losses of boxes are quadratic below 1/9 (published: absolute everywhere)",
    "anchors are rounded to pixels (published: not rounded)",
    "the last layers start as torch's linear layers (published: normal, SD .01 for classes and .001 for boxes)",
    "images are resized as floats (published: as bytes by Pillow)",
    "an epoch's last, smaller batch is dropped (published: an endless stream, wide and tall images in batches of their own)",
    "of equal scores the earlier image's counts first, and classes without objects are left out (published: no order, and 0)",
)
DIFFERS_ONE = ("`trials: 1`: one run a seed (published: the mean of 5 runs)",)


@dataclass
class Config:
    """SGD with a linear warm-up, the rate a tenth after each of `drops`. The defaults are the published ones for a batch of 16, but for
    one trial."""

    trials: int = option(1, "trainings, each from another seed, whose numbers are averaged; published: 5", least=1)
    steps: int = option(24000, "of the training", least=1)
    batch_size: int = option(16, "images in a step; all, if there are fewer, which the protocol says", least=1)
    learning_rate: float = option(0.02, "after the warm-up", above=0)
    weight_decay: float = option(1e-4, "of all weights", least=0)
    drops: list[int] = option([18000, 22000], "steps after which the rate is a tenth", least=1, rising=True)
    warmup: int = option(100, "steps of the warm-up", least=0)
    train_sizes: list[int] = option(list(range(480, 801, 32)), "short sides that are drawn from, in pixels", least=1, filled=True)
    test_size: int = option(800, "the short side in the test, in pixels", least=1)
    longest: int = option(1333, "the long side, in pixels, at most", least=1)
    anchors: list[int] = option([32, 64, 128, 256, 512], "sides of the anchors, in pixels", least=1, filled=True)
    pooled: int = option(14, "cells of a region's side", least=1)
    regions: int = option(512, "proposals of an image that the boxes' head learns from in a step", least=1)
    curve: list[int] = option([], "steps at which training images are scored", least=0, rising=True)


def check_encoder(config: Config, encoder: dict) -> None:
    """UserError for a transformer, which has no stages to take apart."""
    if encoder["name"] in VITS:
        raise UserError(f"detection needs a ResNet, and encoder.name is {encoder['name']}; valid: {', '.join(RESNETS)}")


def picture(shards: Shards, number: int) -> Tensor:
    """An image as floats in [0, 1], 3xHxW."""
    return torch.from_numpy(photograph(shards, number)).permute(2, 0, 1).float() / 255


def sample(shards: Shards, number: int, flip: bool) -> tuple[Tensor, dict[str, Tensor]]:
    """A training image 3xHxW with its boxes nx4 and classes n (from 1), mirrored if `flip`."""
    image, (boxes, labels, _) = picture(shards, number), shards.boxes(number)
    if flip:
        image = image.flip(-1)
        boxes = torch.stack([image.shape[2] - boxes[:, 2], boxes[:, 1], image.shape[2] - boxes[:, 0], boxes[:, 3]], 1)
    kept = ((boxes[:, 2:] - boxes[:, :2]) > 0).all(1)
    return image, {"boxes": boxes[kept], "labels": labels[kept] + 1}


def batches(
    shards: Shards, batch_size: int, steps: int, seed: int, workers: int = 1, start: int = 0
) -> Iterator[tuple[int, list[Tensor], list[dict[str, Tensor]]]]:
    """Yields the batches of steps `start` to `steps` as (step, images, targets), epoch after epoch; the last, smaller one of an epoch is
    dropped."""

    def chosen() -> Iterator[list[tuple[int, bool]]]:
        epoch = 0
        while True:
            epoch += 1
            order = epoch_order(shards.num_samples, seed, epoch)
            flips = torch.rand(shards.num_samples, generator=torch.Generator().manual_seed(mixed_seed(seed, epoch, 1))) < 0.5
            for numbers in order[: len(order) // batch_size * batch_size].split(batch_size):
                yield [(int(i), bool(flips[i])) for i in numbers]

    def pieces(batch: list[tuple[int, bool]]) -> list[Callable[[], tuple[Tensor, dict[str, Tensor]]]]:
        return [partial(sample, shards, number, flip) for number, flip in batch]

    for step, (_, samples) in enumerate(overlapped(islice(chosen(), start, steps), pieces, workers), start):
        images, targets = zip(*samples, strict=True)
        yield step, list(images), list(targets)


def factor(config: Config, step: int) -> float:
    """The share of the learning rate at a step, counted from 0."""
    warm = min(1.0, 0.001 + 0.999 * step / config.warmup) if config.warmup else 1.0
    return warm * 0.1 ** sum(step >= drop for drop in config.drops)


@torch.no_grad()
def precisions(network: FasterRCNN, shards: Shards, numbers: list[int], config: Config, device: str, workers: int = 1) -> dict:
    """In %: VOC2007's AP (mean over IoU .5 to .95), AP50 and AP75, COCO's as `coco_...`, and VOC's of each class.

    Objects marked difficult are not asked for: by VOC's rule a detection of one is ignored, by COCO's they are crowds.
    """
    from torchmetrics.detection import MeanAveragePrecision

    voc = VOCPrecision(len(shards.classes))
    # The library's own thresholds are float32, and miss recalls of exactly k/100.
    coco = MeanAveragePrecision(iou_thresholds=np.linspace(0.5, 0.95, 10).tolist(), rec_thresholds=np.linspace(0, 1, 101).tolist())
    coco.warn_on_many_detections = False
    transform, training = network.transform, network.training
    sizes, transform.min_size = transform.min_size, (config.test_size,)
    network.eval()
    progress = Progress("detecting", len(numbers))
    for number, (image,) in overlapped(numbers, lambda number: [partial(picture, shards, number)], workers):
        found = {key: value.cpu() for key, value in network([image.to(device)])[0].items()}
        boxes, labels, difficult = shards.boxes(number)
        coco.update([found], [{"boxes": boxes, "labels": labels + 1, "iscrowd": difficult.int()}])
        own = (found["boxes"], found["labels"] - 1, found["scores"], boxes, labels, difficult)
        voc.update(*(tensor.numpy() for tensor in own))
        progress.update(1)
    progress.close()
    transform.min_size = sizes
    network.train(training)
    by_class = voc.compute()
    if np.isnan(by_class).all():
        raise UserError(f"{shards.folder} has no object that is not marked difficult")
    values, means = coco.compute(), np.nanmean(by_class, 1)
    at = {"ap": slice(None), "ap50": THRESHOLDS == 0.5, "ap75": THRESHOLDS == 0.75}
    return {
        **{name: float(means[rows].mean()) for name, rows in at.items()},
        **{f"coco_{name}": 100 * float(values[key]) for name, key in (("ap", "map"), ("ap50", "map_50"), ("ap75", "map_75"))},
        "by_class": [
            {"class": name, **{key: None if np.isnan(of[0]) else float(of[rows].mean()) for key, rows in at.items()}}
            for name, of in zip(shards.classes, by_class.T, strict=True)
        ],
    }


def trained(
    config: Config, inputs: EncoderInputs, train: Shards, name: str, *, seed: int, device: str
) -> tuple[FasterRCNN, list[float], list[dict]]:
    """A detector after the last step, the loss of each step, and the curve; its state is saved under `name`."""
    torch.manual_seed(mixed_seed(seed))
    network = detector(inputs.encoder, len(train.classes), config, inputs.mean, inputs.std).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)
    curve: list[dict] = []
    losses: list[float] = []
    recent: list[Tensor] = []  # losses on the device that nobody has looked at
    if saved := inputs.saves.begin(name):
        network.load_state_dict(saved["objective"])
        optimizer.load_state_dict(saved["optimizer"])
        curve, losses, recent = saved["curve"], saved["losses"], [loss.to(device) for loss in saved["recent"]]
    elif 0 in config.curve:
        curve.append({"step": 0, **_brief(network, train, config, device, inputs.workers)})

    def state() -> dict:
        seen = {"curve": curve, "losses": losses, "recent": recent, "epoch": 0, "step": len(losses) + len(recent)}
        return {"objective": network.state_dict(), "optimizer": optimizer.state_dict(), **seen}

    batch_size, start = min(config.batch_size, train.num_samples), len(losses) + len(recent)
    progress = Progress("detection", config.steps, "step", done=start)
    for step, images, targets in batches(train, batch_size, config.steps, seed, inputs.workers, start):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * factor(config, step)
        images, targets = [image.to(device) for image in images], [{key: v.to(device) for key, v in t.items()} for t in targets]
        loss = torch.stack(list(network(images, targets).values())).sum()
        recent.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if len(recent) == LOOK_EVERY or step + 1 == config.steps:  # a GPU is not waited for in every step
            losses += torch.stack(recent).tolist()
            recent.clear()
            _check_finite(losses, config)
        progress.update(1)
        if step + 1 in config.curve:
            curve.append({"step": step + 1, **_brief(network, train, config, device, inputs.workers)})
        inputs.saves.offer(name, state)
    progress.close()
    inputs.saves.end(name, state)
    return network, losses, curve


def _check_finite(losses: list[float], config: Config) -> None:
    """UserError if one of the last losses is no finite number."""
    if not np.isfinite(losses[-LOOK_EVERY:]).all():
        first = int(np.flatnonzero(~np.isfinite(losses))[0])
        raise UserError(
            f"the loss is {losses[first]} at step {first}: lower learning_rate ({config.learning_rate:g}) or raise warmup"
        )


def _brief(network: FasterRCNN, train: Shards, config: Config, device: str, workers: int) -> dict:
    """AP on the first training images: a curve to watch, never a choice."""
    found = precisions(network, train, list(range(min(50, train.num_samples))), config, device, workers)
    return {key: found[key] for key in ("ap", "ap50")}


def parts(config: Config) -> dict[str, dict]:
    """Every trial."""
    return {f"trial-{trial}": {"trials": 1} for trial in range(1, config.trials + 1)}


def evaluate_part(config: Config, inputs: EncoderInputs, part: str, *, seed: int, device: str) -> dict:
    """Of one trial the numbers of `precisions` on the test images, the loss, and the curve. The first has the run's own seed."""
    train, test = Shards(inputs.train), Shards(inputs.test)
    if train.multi_labels is None or train.format != "encoded":
        raise UserError(f"{inputs.train} has no boxes: detection needs a set such as voc0712, voc2007 or scenes")
    trial = int(part.removeprefix("trial-"))
    own = seed if trial == 1 else mixed_seed(seed, trial)
    network, losses, curve = trained(config, inputs, train, part, seed=own, device=device)
    found = precisions(network, test, list(range(test.num_samples)), config, device, inputs.workers)
    loss = [float(np.mean(part)) for part in np.array_split(losses, min(100, len(losses)))]
    return {"by_class": found.pop("by_class"), "metrics": found, "loss": loss, "curve": curve}


def _means(trials: list[dict]) -> list[dict]:
    """The mean AP of each class over trials; None where the class has no objects, which is so in all."""
    return [
        {"class": rows[0]["class"]} | {key: None if rows[0][key] is None else _mean(rows, key) for key in ("ap", "ap50", "ap75")}
        for rows in zip(*(trial["by_class"] for trial in trials), strict=True)
    ]


def _mean(rows: Iterable[dict], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def evaluate(config: Config, inputs: EncoderInputs, parts: dict[str, dict], *, seed: int, device: str) -> dict:
    """VOC2007's and COCO's AP, AP50 and AP75 in % on the test images, after the last step; of several trials their means."""
    train, test, trials = Shards(inputs.train), Shards(inputs.test), list(parts.values())
    measured = [trial["metrics"] for trial in trials]
    several: dict = {}
    if len(trials) > 1:
        deviation = {name: float(np.std([each[name] for each in measured], ddof=1)) for name in measured[0]}
        several = {"trials": measured, "deviation": deviation}
    return {
        "metrics": {name: _mean(measured, name) for name in measured[0]},
        "protocol": {
            "kind": "Faster R-CNN, C4 with an extra batch normalisation after the last stage, nothing frozen",
            "optimiser": f"SGD, momentum 0.9, rate {config.learning_rate:g}, weight decay {config.weight_decay:g}, warm-up {config.warmup}",
            "steps": f"{config.steps} of {min(config.batch_size, train.num_samples)} images, a tenth of the rate after {config.drops}",
            "sizes": f"short side {config.train_sizes[0]} to {config.train_sizes[-1]} in training, {config.test_size} in the test",
            "trials": f"mean of {len(trials)}, SD in details.deviation" if len(trials) > 1 else "1",
            "choice": "nothing is chosen; last step",
            "metric": "VOC2007's eleven-point AP, as detectron2 takes it: ap over IoU .5 to .95, ap50, ap75; difficult objects are ignored",
            "metric_coco": "coco_ap, coco_ap50, coco_ap75 by COCO's 101 points; difficult objects are crowds",
            "differs": "; ".join(DIFFERS + (DIFFERS_ONE if len(trials) == 1 else ())),
            "training_images": train.num_samples,
            "test_images": test.num_samples,
        },
        "details": {
            "classes": train.classes,
            "average_precision": _means(trials),
            "loss": np.mean([trial["loss"] for trial in trials], 0).tolist(),
            "curve": trials[0]["curve"],
            **several,
        },
    }
