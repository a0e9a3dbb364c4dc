"""Fine-tuning of a whole network with a new classifier. N images, B batch, C classes."""

import copy
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.selection import mixed_seed
from invp.data.augment import Augment
from invp.data.batches import epoch_order, eval_batches, train_batches
from invp.data.shards import Shards
from invp.evals._inputs import EncoderInputs
from invp.models.transformers import Transformer
from invp.plumbing.encoder_options import VITS
from invp.plumbing.errors import UserError
from invp.plumbing.options import option, refuse_unused
from invp.plumbing.progress import Progress
from invp.plumbing.sections import Augmentation


@dataclass
class Schedule:
    """SGD, or AdamW, over a number of steps or epochs."""

    epochs: int = option(30, "of the training, if steps is 0", least=1)
    steps: int = option(0, "of the training; 0: by epochs", least=0)
    batch_size: int = option(256, "images in a step; all, if there are fewer, which the protocol says", least=1)
    optimizer: str = option("sgd", "adamw: biases, normalisations and positions do not decay", choices=("sgd", "adamw"), later=True)
    momentum: float = option(0.9, "of SGD", least=0, below=1)
    nesterov: bool = option(True, "Nesterov's momentum")
    schedule: str = option(
        "cosine", "multistep: after each of drops the encoder's rate alone is a tenth", choices=("cosine", "multistep")
    )
    drops: list[int] = option([], "epochs of multistep", least=0, rising=True)
    head_factor: float = option(1.0, "the classifier's rate in that of the encoder", above=0)
    layer_decay: float = option(
        1.0,
        "of a transformer: the rate of a block in that of the block behind it, down to its patches",
        above=0,
        most=1,
        later=True,
    )
    warmup_epochs: float = option(0.0, "epochs of a linear warm-up by step", least=0, later=True)
    norm_warmup: bool = option(
        False, "batch norms average faster at first: momentum max(10 / step, 0.1) in torch's sense (SimCLR, B.8)"
    )
    crop_scale: list[float] = option([0.08, 1.0], "a crop's share of the area", above=0, most=1, length=2, rising=True)
    flip: bool = option(True, "mirror half of the crops")

    def __post_init__(self) -> None:
        refuse_unused(self, "optimizer", {"momentum": ("sgd",), "nesterov": ("sgd",)})

    def said(self, rates: str) -> str:
        """The optimiser in a protocol's words, with what it says of the rates."""
        name = "AdamW, biases, normalisations and positions without decay" if self.optimizer == "adamw" else f"SGD{rates}"
        layers = f", rates times {self.layer_decay:g} a block down" if self.layer_decay != 1 else ""
        return name + layers + (f", {self.warmup_epochs:g} epochs of warm-up" if self.warmup_epochs else "")


def check_encoder(config: Schedule, encoder: dict) -> None:
    """UserError for rates by depth of an encoder that is no transformer."""
    if config.layer_decay != 1 and encoder["name"] not in VITS:
        raise UserError(
            f"layer_decay is {config.layer_decay:g}, which {encoder['name']} has no use for; valid with: {', '.join(VITS)}"
        )


class Classifier(nn.Module):
    """An encoder, copied, with a linear classifier that starts at zero: images BxCxHxW -> scores BxC."""

    def __init__(self, encoder: nn.Module, num_classes: int):
        super().__init__()
        self.encoder = copy.deepcopy(encoder)
        self.classifier = nn.Linear(encoder.num_features, num_classes)
        nn.init.zeros_(self.classifier.weight)
        nn.init.zeros_(self.classifier.bias)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.encoder(images))


def targets_of(shards: Shards) -> Tensor:
    """Labels N, or NxC of sets with several an image; UserError where there are none."""
    if shards.multi_labels is not None:
        return shards.multi_labels
    if (shards.labels < 0).any():
        raise UserError(f"{shards.folder} has images without a label: fine-tuning needs labels")
    return shards.labels


def loss_of(scores: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of labels B, or the mean binary one of BxC, where -1 (only difficult) does not count."""
    if targets.ndim == 1:
        return F.cross_entropy(scores, targets)
    counted = (targets >= 0).float()
    losses = F.binary_cross_entropy_with_logits(scores, (targets == 1).float(), reduction="none")
    return (losses * counted).sum() / counted.sum().clamp_min(1)


# The rates stand beside the schedule since a grid varies them; seed, device and label are the run's.
def finetuned(
    inputs: EncoderInputs, shards: Shards, numbers: Tensor, config: Schedule, learning_rate: float, weight_decay: float, *, seed: int, device: str,
    label: str,
) -> tuple[Classifier, list[float]]:  # fmt: skip
    """A network trained on the images `numbers` of a split, from the encoder that `inputs` has, and its mean loss of each epoch.

    Its state is saved under `label`. A loss that is no finite number ends the training.
    """
    torch.manual_seed(mixed_seed(seed))
    network = Classifier(inputs.encoder, len(shards.classes)).to(device).train()
    targets = targets_of(shards).to(device)
    batch_size = min(config.batch_size, len(numbers))
    per_epoch = len(numbers) // batch_size
    total, warmup = config.steps or config.epochs * per_epoch, round(config.warmup_epochs * per_epoch)
    if warmup >= total:
        raise UserError(
            f"warmup_epochs is {config.warmup_epochs:g}, and the training has {total / per_epoch:g} epochs; valid: less"
        )
    optimizer = _optimizer(network, config, learning_rate, weight_decay)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    augmentation = Augment(
        Augmentation(size=inputs.size, crop_scale=config.crop_scale, flip=config.flip, mean=inputs.mean, std=inputs.std)
    )
    losses: list[float] = []
    sums: list[Tensor] = []  # losses of the epoch's steps, on the device
    if saved := inputs.saves.begin(label):
        network.load_state_dict(saved["objective"])
        optimizer.load_state_dict(saved["optimizer"])
        losses, sums = saved["losses"], [loss.to(device) for loss in saved["sums"]]

    def state() -> dict:
        place = {"epoch": len(losses), "step": len(sums), "losses": losses, "sums": sums}
        return {"objective": network.state_dict(), "optimizer": optimizer.state_dict(), **place}

    done = len(losses) * per_epoch + len(sums)
    progress = Progress(label, total, unit="step", done=done)
    while done < total and all(map(math.isfinite, losses)):  # a rate of the grid that is too large ends; the others go on
        epoch = len(losses) + 1
        order = numbers[epoch_order(len(numbers), seed, epoch)]
        common = {"rank": 0, "world_size": 1, "device": torch.device(device), "seed": seed, "epoch": epoch}
        for _, index, (images,) in train_batches(
            shards, order=order, batch_size=batch_size, start_step=len(sums), augmentations=[augmentation], workers=inputs.workers, **common
        ):  # fmt: skip
            warm, share = min(1.0, done / warmup) if warmup else 1.0, max(0, done - warmup) / (total - warmup)
            for group in optimizer.param_groups:
                group["lr"] = group["start"] * warm * _factor(config, share, epoch, encoder=group["encoder"])
            if config.norm_warmup:
                for norm in norms:
                    norm.momentum = min(1.0, max(10 / (done + 1), 0.1))
            loss = loss_of(network(images), targets[index.to(device)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            sums.append(loss.detach())
            done += 1
            progress.update(1)
            if done == total:
                break
            inputs.saves.offer(label, state)
        losses.append(float(torch.stack(sums).mean()))
        sums = []
    progress.close()
    inputs.saves.end(label, state)
    return network.eval(), losses


def layer_of(name: str, depth: int) -> int:
    """The layer of a network's parameter, of a transformer with so many blocks, as timm counts: 0 for patches, positions and tokens of its
    own, then a number for each block, the last of which has the last normalisation too, and depth + 1 for the classifier."""
    place = name.removeprefix("encoder.vit.")
    if place.startswith("blocks."):
        return 1 + int(place.split(".")[1])
    return depth + 1 if name.startswith("classifier.") else depth if place.startswith("norm.") else 0


def _optimizer(network: Classifier, config: Schedule, learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
    """The optimiser with groups of equal rate and decay, the encoder's first; `start` is a group's rate before the schedule.

    With `layer_decay` the rate of layer i of a transformer is that of the last layer times layer_decay^(last - i) (Bao et al., ICLR 2022).
    """
    encoder, adamw = network.encoder, config.optimizer == "adamw"
    depth = len(encoder.block_names) if isinstance(encoder, Transformer) else 0
    spared = {f"encoder.vit.{name}" for name in encoder.vit.no_weight_decay()} if isinstance(encoder, Transformer) else set()
    groups: dict[tuple, dict] = {}
    for name, parameter in network.named_parameters():
        own = name.startswith("encoder.")
        scale = config.layer_decay ** (depth + 1 - layer_of(name, depth)) if own and depth else 1.0
        rate = learning_rate * (scale if own else config.head_factor)
        decay = 0.0 if adamw and (parameter.ndim <= 1 or name in spared) else weight_decay
        group = {"params": [], "lr": rate, "start": rate, "weight_decay": decay, "encoder": own}
        groups.setdefault((own, rate, decay), group)["params"].append(parameter)
    if adamw:
        return torch.optim.AdamW(groups.values(), learning_rate, fused=True)
    return torch.optim.SGD(
        groups.values(), learning_rate, momentum=config.momentum, nesterov=config.nesterov and config.momentum > 0
    )


def _factor(config: Schedule, share: float, epoch: int, *, encoder: bool) -> float:
    """Of the rate after the warm-up, when this share of the steps behind it is done."""
    if config.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * share))
    return 0.1 ** sum(epoch > drop for drop in config.drops) if encoder else 1.0


@torch.no_grad()
def scores_of(network: Classifier, inputs: EncoderInputs, shards: Shards, device: str, numbers: Tensor | None = None) -> Tensor:
    """Scores of a whole split, or of its images `numbers`, without augmentation: NxC on the CPU."""
    wanted = torch.ones(shards.num_samples, dtype=torch.bool)
    if numbers is not None:
        wanted = torch.zeros_like(wanted).index_fill_(0, numbers, True)
    options = {"size": inputs.size, "batch_size": 256, "device": device, "mean": inputs.mean, "std": inputs.std}
    parts = [
        network(images[wanted[index].to(device)]).float().cpu()
        for index, images in eval_batches(shards, workers=inputs.workers, **options)
        if wanted[index].any()
    ]
    found = torch.zeros(shards.num_samples, parts[0].shape[1])
    found[wanted] = torch.cat(parts)
    return found if numbers is None else found[numbers]
