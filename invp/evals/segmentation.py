"""Semantic segmentation: an FCN of which all weights are trained, as MoCo's (He et al., CVPR 2020), or a linear head on frozen maps.

B images, H x W pixels, K classes with the background.
"""

import base64
import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from invp.core.metrics import confusion_matrix, intersection_over_union
from invp.core.selection import hashed_uniform, mixed_seed
from invp.data.augment import normalised
from invp.data.batches import epoch_order, overlapped
from invp.data.decode import photograph
from invp.data.masks import IGNORED
from invp.data.shards import Shards
from invp.evals._inputs import EncoderInputs
from invp.evals._segmenter import Segmenter
from invp.models.transformers import Transformer
from invp.plumbing.errors import UserError
from invp.plumbing.metrics import PERCENT
from invp.plumbing.options import option
from invp.plumbing.progress import Progress

NEEDS = "encoder"
METRICS = {"*": PERCENT}
MULTI_LABEL = True
MASKS = True
LOOK_EVERY = 10  # steps between looks at the loss
PICTURE = 160  # pixels of the longer side of the test images that are kept for the figure
DIFFERS = (
    "batch statistics of one process (published: of all GPUs together)",
    "weight decay of all weights (published: not said)",
    "scores are made as large as the image and then compared with its mask (published: not said)",
    "an epoch's last, smaller batch is dropped (published: not said)",
)
DIFFERS_LINEAR = (
    "`mode: linear`: a batch normalisation and a 1x1 convolution on the frozen network's last maps"
    " (published: of ResNets all weights are trained under a deeper head)",
)


@dataclass
class Config:
    """SGD, the rate a tenth after each of `drops`. The defaults are MoCo's for VOC2012's train_aug, the data set `sbd`."""

    mode: str = option(
        "fcn",
        "fcn: all weights are trained, with MoCo's head; linear: frozen, batch normalisation and 1x1",
        choices=("fcn", "linear"),
    )
    steps: int = option(30000, "of the training", least=1)
    batch_size: int = option(16, "images in a step; all, if there are fewer, which the protocol says", least=1)
    learning_rate: float = option(0.003, "before the drops", above=0)
    weight_decay: float = option(1e-4, "of all weights that are trained", least=0)
    drops: list[float] = option([0.7, 0.9], "shares of the steps after which the rate is a tenth", above=0, most=1, rising=True)
    crop: int = option(513, "side of the training crops, in pixels", least=1)
    scales: list[float] = option(
        [0.5, 2.0], "a training image is resized by a factor between these", above=0, length=2, rising=True
    )
    flip: bool = option(True, "mirror half of the crops")
    dilation: int = option(2, "of a ResNet's last stage, which then has stride 1; 1: the stage as it is", least=1)
    width: int = option(256, "channels of the head of fcn", least=1)
    pictures: int = option(6, "test images whose answers are kept, for the figure segmentation", least=0)


def sample(shards: Shards, number: int, config: Config, inputs: EncoderInputs, draws: np.ndarray) -> tuple[Tensor, Tensor]:
    """A training crop, normalised, 3 x crop x crop, and its classes, crop x crop; 0 and IGNORED where there is no image.

    `draws` are four uniform numbers: of the factor of size, of the crop's place and of the mirror. The mask is resized to the same size by
    its nearest pixels, and then treated as the image.
    """
    image = torch.from_numpy(photograph(shards, number)).permute(2, 0, 1).float() / 255
    mask = torch.from_numpy(shards.mask(number))[None].float()
    factor = config.scales[0] + draws[0] * (config.scales[1] - config.scales[0])
    size = [max(1, round(factor * side)) for side in image.shape[1:]]
    image = F.interpolate(image[None], size, mode="bilinear", antialias=True)
    mask = F.interpolate(mask[None], size, mode="nearest-exact")[0]
    missing = [max(0, config.crop - side) for side in size]
    pad = (0, missing[1], 0, missing[0])  # right and below
    both = torch.cat([F.pad(normalised(image, inputs.mean, inputs.std)[0], pad), F.pad(mask, pad, value=IGNORED)])
    top, left = (int(draw * (side - config.crop + 1)) for draw, side in zip(draws[1:3], both.shape[1:], strict=True))
    both = both[:, top : top + config.crop, left : left + config.crop]
    if config.flip and draws[3] < 0.5:
        both = both.flip(-1)
    return both[:3], both[3].long()


def batches(
    shards: Shards, config: Config, inputs: EncoderInputs, seed: int, start: int = 0
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yields (step, crops Bx3xSxS, classes BxSxS) from step `start` on, epoch after epoch; the last, smaller batch of an epoch is dropped."""
    size = min(config.batch_size, shards.num_samples)

    def chosen() -> Iterator[list[tuple[int, np.ndarray]]]:
        epoch = 0
        while True:
            epoch += 1
            order = epoch_order(shards.num_samples, seed, epoch)
            draws = hashed_uniform(torch.arange(shards.num_samples), 4, seed, epoch).numpy()
            for numbers in order[: len(order) // size * size].split(size):
                yield [(int(i), draws[i]) for i in numbers]

    def pieces(batch: list[tuple[int, np.ndarray]]) -> list[Callable[[], tuple[Tensor, Tensor]]]:
        return [partial(sample, shards, number, config, inputs, draws) for number, draws in batch]

    for step, (_, samples) in enumerate(overlapped(islice(chosen(), start, config.steps), pieces, inputs.workers), start):
        images, masks = zip(*samples, strict=True)
        yield step, torch.stack(images), torch.stack(masks)


def network_of(config: Config, inputs: EncoderInputs, num_classes: int) -> Segmenter:
    """The encoder, copied, with the head that `mode` asks for."""
    return Segmenter(inputs.encoder, num_classes, frozen=config.mode == "linear", dilation=config.dilation, width=config.width)


def maps_of(config: Config, inputs: EncoderInputs) -> str:
    """What the head stands on, in words."""
    if isinstance(inputs.encoder, Transformer):
        return f"tokens of the patches, {inputs.encoder.patch} x {inputs.encoder.patch} px, after the last block"
    return f"last stage with stride 1 and dilation {config.dilation}" if config.dilation > 1 else "last stage as it is"


def trained(config: Config, inputs: EncoderInputs, train: Shards, *, seed: int, device: str) -> tuple[Segmenter, list[float]]:
    """A network after the last step, in evaluation mode, and the loss of each step; its state is saved."""
    torch.manual_seed(mixed_seed(seed))
    network = network_of(config, inputs, len(train.classes) + 1).to(device).train()
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(parameters, config.learning_rate, momentum=0.9, weight_decay=config.weight_decay)
    losses: list[float] = []
    recent: list[Tensor] = []  # losses on the device that nobody has looked at
    if saved := inputs.saves.begin("segmentation"):
        network.load_state_dict(saved["objective"])
        optimizer.load_state_dict(saved["optimizer"])
        losses, recent = saved["losses"], [loss.to(device) for loss in saved["recent"]]

    def state() -> dict:
        place = {"losses": losses, "recent": recent, "epoch": 0, "step": len(losses) + len(recent)}
        return {"objective": network.state_dict(), "optimizer": optimizer.state_dict(), **place}

    start = len(losses) + len(recent)
    progress = Progress("segmentation", config.steps, "step", done=start)
    for step, images, masks in batches(train, config, inputs, seed, start):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * 0.1 ** sum(step >= drop * config.steps for drop in config.drops)
        images, masks = images.to(device), masks.to(device)
        counted = (masks != IGNORED).sum().clamp_min(1)
        loss = F.cross_entropy(network(images), masks, ignore_index=IGNORED, reduction="sum") / counted
        recent.append(loss.detach())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if len(recent) == LOOK_EVERY or step + 1 == config.steps:  # a GPU is not waited for in every step
            losses += torch.stack(recent).tolist()
            recent.clear()
            if not np.isfinite(losses[-LOOK_EVERY:]).all():
                raise UserError(
                    f"the loss was no finite number before step {step + 1}: lower learning_rate ({config.learning_rate:g})"
                )
        progress.update(1)
        inputs.saves.offer("segmentation", state)
    progress.close()
    inputs.saves.end("segmentation", state)
    return network.eval(), losses


@torch.no_grad()
def answers(
    network: Segmenter, inputs: EncoderInputs, shards: Shards, device: str
) -> Iterator[tuple[int, np.ndarray, np.ndarray, np.ndarray]]:
    """Yields of every image, each at its own size: its number, its pixels HxWx3 uint8, its true classes HxW, and the answers HxW."""

    def read(number: int) -> tuple[np.ndarray, np.ndarray]:
        return photograph(shards, number), shards.mask(number)

    progress = Progress("segmenting", shards.num_samples)
    for number, ((pixels, truth),) in overlapped(range(shards.num_samples), lambda number: [partial(read, number)], inputs.workers):
        image = torch.from_numpy(pixels).to(device).permute(2, 0, 1)[None].float() / 255
        yield number, pixels, truth, network(normalised(image, inputs.mean, inputs.std))[0].argmax(0).cpu().numpy().astype(np.uint8)
        progress.update(1)
    progress.close()


def tested(network: Segmenter, inputs: EncoderInputs, test: Shards, pictures: int, device: str) -> tuple[np.ndarray, list[dict]]:
    """The confusion of all pixels that count, KxK, true classes in rows, and so many images with their masks and answers."""
    num_classes = len(test.classes) + 1
    confusion = np.zeros((num_classes, num_classes), np.int64)
    shown = {round(at) for at in np.linspace(0, test.num_samples - 1, min(pictures, test.num_samples))}
    kept = []
    for number, pixels, truth, answer in answers(network, inputs, test, device):
        counts = truth != IGNORED
        confusion += confusion_matrix(answer[counts].astype(np.int64), truth[counts].astype(np.int64), num_classes)
        if number in shown:
            kept.append({"image": number, "input": as_text(pixels), "truth": as_text(truth), "answer": as_text(answer)})
    return confusion, kept


def as_text(values: np.ndarray) -> str:
    """Pixels HxWx3, or class numbers HxW, as a PNG in base64, its longer side at most PICTURE pixels; of class numbers the nearest."""
    image = Image.fromarray(values)
    scale = min(1.0, PICTURE / max(image.size))
    mode = Image.Resampling.NEAREST if values.ndim == 2 else Image.Resampling.BILINEAR
    image = image.resize((max(1, round(scale * image.width)), max(1, round(scale * image.height))), mode)
    out = io.BytesIO()
    image.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


def scores_of(confusion: np.ndarray) -> dict[str, float]:
    """`miou`, the mean of classes that are true or answered anywhere, and `pixel_accuracy`, in %."""
    return {
        "miou": float(np.nanmean(intersection_over_union(confusion))),
        "pixel_accuracy": 100 * float(confusion.trace() / confusion.sum()),
    }


def evaluate(config: Config, inputs: EncoderInputs, *, seed: int, device: str) -> dict:
    """Mean intersection over union and pixel accuracy in % over all pixels of the test images that count, after the last step."""
    train, test = Shards(inputs.train), Shards(inputs.test)
    for shards in (train, test):
        if not shards.has_masks or shards.format != "encoded":
            raise UserError(f"{shards.folder} has no masks: segmentation needs a set such as sbd, voc2012_segmentation or scenes")
    network, losses = trained(config, inputs, train, seed=seed, device=device)
    confusion, pictures = tested(network, inputs, test, config.pictures, device)
    if not confusion.any():
        raise UserError(f"{test.folder}: no pixel of any mask counts")
    classes = ["background", *train.classes]
    by_class = [None if np.isnan(value) else float(value) for value in intersection_over_union(confusion)]
    background = np.zeros_like(confusion)
    background[:, 0] = confusion.sum(1)
    linear = config.mode == "linear"
    return {
        "metrics": scores_of(confusion),
        "protocol": {
            "kind": "frozen network, batch normalisation and 1x1 on its last maps"
            if linear
            else "FCN of two 3x3 and 1x1, nothing frozen",
            "maps": maps_of(config, inputs),
            "optimiser": f"SGD, momentum 0.9, rate {config.learning_rate:g}, weight decay {config.weight_decay:g}",
            "steps": f"{config.steps} of {min(config.batch_size, train.num_samples)} images, a tenth of the rate after {config.drops} of them",
            "sizes": f"scales {config.scales}, crops of {config.crop}, flip {'on' if config.flip else 'off'}; the test at the images' own size",
            "choice": "nothing is chosen; last step",
            "metric": f"mean over {len(by_class) - by_class.count(None)} classes with the background, all test images' pixels together, 255 ignored",
            "differs": "; ".join(DIFFERS + (DIFFERS_LINEAR if linear else ())),
            "training_images": train.num_samples,
            "test_images": test.num_samples,
        },
        "details": {
            "classes": classes,
            "iou": [{"class": name, "iou": value} for name, value in zip(classes, by_class, strict=True)],
            "always_background": scores_of(background),
            "loss": [float(np.mean(part)) for part in np.array_split(losses, min(100, len(losses)))],
            "pictures": pictures,
        },
    }
