"""Object detection (Table 4): Faster R-CNN on the encoder's stages but the last, which is the head of the boxes (R50-C4), all weights trained.

The main numbers are VOC2007's; COCO's stand beside them.

B images, n objects of one, C channels.
"""

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from invp.core.selection import mixed_seed
from invp.data.batches import epoch_order, overlapped
from invp.data.decode import photograph
from invp.data.shards import Shards
from invp.evals._inputs import EncoderInputs
from invp.evals._voc_ap import THRESHOLDS, VOCPrecision
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
    "one run a seed (published: the mean of 5 runs)",
)


@dataclass
class Config:
    """SGD with a linear warm-up, the rate a tenth after each of `drops`. The defaults are the published ones for a batch of 16."""

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


class Stages(nn.Module):
    """The encoder up to its last stage but one: images Bx3xHxW -> maps BxCxhxw."""

    def __init__(self, encoder: nn.Module, layers: list[nn.Module], out_channels: int):
        super().__init__()
        self.body = nn.Sequential(encoder.conv1, encoder.bn1, encoder.relu, encoder.maxpool, *layers)
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> Tensor:
        return self.body(images)


class BoxHead(nn.Module):
    """The encoder's last stage on pooled regions, the extra batch normalisation, and the mean: RxCxhxw -> RxF."""

    def __init__(self, last: nn.Module, num_features: int):
        super().__init__()
        self.last, self.norm = last, nn.BatchNorm2d(num_features)

    def forward(self, regions: Tensor) -> Tensor:
        return self.norm(self.last(regions)).mean((2, 3))


def detector(encoder: nn.Module, num_classes: int, config: Config, mean: list[float], std: list[float]) -> FasterRCNN:
    """Faster R-CNN with the layout C4, from torchvision's parts around a copy of the encoder; class 0 is the background."""
    encoder = copy.deepcopy(encoder)
    layers = [layer for name in ("layer1", "layer2", "layer3", "layer4") if len(layer := getattr(encoder, name, []))]
    if len(layers) < 2:
        raise UserError("detection needs a ResNet: this encoder has no stages")
    with torch.no_grad():
        stages = Stages(encoder, layers[:-1], 0).eval()
        stages.out_channels = stages(torch.zeros(1, 3, 64, 64)).shape[1]
    return FasterRCNN(
        stages,
        min_size=tuple(config.train_sizes),
        max_size=config.longest,
        image_mean=mean,
        image_std=std,
        rpn_anchor_generator=AnchorGenerator((tuple(config.anchors),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], config.pooled, 2),
        box_head=BoxHead(layers[-1], encoder.num_features),
        box_batch_size_per_image=config.regions,
        box_predictor=FastRCNNPredictor(encoder.num_features, num_classes + 1),
    )


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
    shards: Shards, batch_size: int, steps: int, seed: int, workers: int = 1
) -> Iterator[tuple[int, list[Tensor], list[dict[str, Tensor]]]]:
    """Yields `steps` batches as (step from 0, images, targets), epoch after epoch; the last, smaller one of an epoch is dropped."""

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

    for step, (_, samples) in enumerate(overlapped(islice(chosen(), steps), pieces, workers)):
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


def evaluate(config: Config, inputs: EncoderInputs, *, seed: int, device: str) -> dict:
    """VOC2007's and COCO's AP, AP50 and AP75 in % on the test images, after the last step."""
    train, test = Shards(inputs.train), Shards(inputs.test)
    if train.multi_labels is None or train.format != "encoded":
        raise UserError(f"{inputs.train} has no boxes: detection needs a set such as voc0712, voc2007 or scenes")
    torch.manual_seed(mixed_seed(seed))
    network = detector(inputs.encoder, len(train.classes), config, inputs.mean, inputs.std).to(device).train()
    optimizer = torch.optim.SGD(network.parameters(), config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)
    curve: list[dict] = []
    losses: list[float] = []
    recent: list[Tensor] = []  # losses on the device that nobody has looked at
    if 0 in config.curve:
        curve.append({"step": 0, **_brief(network, train, config, device, inputs.workers)})
    batch_size = min(config.batch_size, train.num_samples)
    progress = Progress("detection", config.steps, "step")
    for step, images, targets in batches(train, batch_size, config.steps, seed, inputs.workers):
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
            if not np.isfinite(losses[-LOOK_EVERY:]).all():
                first = int(np.flatnonzero(~np.isfinite(losses))[0])
                raise UserError(
                    f"the loss is {losses[first]} at step {first}: lower learning_rate ({config.learning_rate:g}) or raise warmup"
                )
        progress.update(1)
        if step + 1 in config.curve:
            curve.append({"step": step + 1, **_brief(network, train, config, device, inputs.workers)})
    progress.close()
    found = precisions(network, test, list(range(test.num_samples)), config, device, inputs.workers)
    by_class = found.pop("by_class")
    return {
        "metrics": found,
        "protocol": {
            "kind": "Faster R-CNN, C4 with an extra batch normalisation after the last stage, nothing frozen",
            "optimiser": f"SGD, momentum 0.9, rate {config.learning_rate:g}, weight decay {config.weight_decay:g}, warm-up {config.warmup}",
            "steps": f"{config.steps} of {batch_size} images, a tenth of the rate after {config.drops}",
            "sizes": f"short side {config.train_sizes[0]} to {config.train_sizes[-1]} in training, {config.test_size} in the test",
            "choice": "nothing is chosen; last step",
            "metric": "VOC2007's eleven-point AP, as detectron2 takes it: ap over IoU .5 to .95, ap50, ap75; difficult objects are ignored",
            "metric_coco": "coco_ap, coco_ap50, coco_ap75 by COCO's 101 points; difficult objects are crowds",
            "differs": "; ".join(DIFFERS),
            "training_images": train.num_samples,
            "test_images": test.num_samples,
        },
        "details": {
            "classes": train.classes,
            "average_precision": by_class,
            "loss": [float(np.mean(part)) for part in np.array_split(losses, min(100, len(losses)))],
            "curve": curve,
        },
    }


def _brief(network: FasterRCNN, train: Shards, config: Config, device: str, workers: int) -> dict:
    """AP on the first training images: a curve to watch, never a choice."""
    found = precisions(network, train, list(range(min(50, train.num_samples))), config, device, workers)
    return {key: found[key] for key in ("ap", "ap50")}
