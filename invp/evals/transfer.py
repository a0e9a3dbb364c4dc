"""Fine-tuning on another set (Table 3, SimCLR's B.8): rates and weight decays chosen on validation images, then trained on all.

N images, C classes.
"""

from dataclasses import dataclass

import numpy as np
import torch

from invp.core.metrics import (
    accuracy,
    accuracy_by_class,
    average_precision,
    confusion_matrix,
    mean_per_class,
    topk_accuracy,
    topk_right,
)
from invp.data.shards import Shards
from invp.evals import _finetune
from invp.evals._inputs import EncoderInputs
from invp.models.encoders import has_batch_norm
from invp.plumbing.errors import UserError
from invp.plumbing.metrics import PERCENT
from invp.plumbing.options import option

NEEDS = "encoder"
METRICS = {"*": PERCENT}
MULTI_LABEL = True
VALIDATION = True
GATHERS_ON_GPU = True  # it trains once more
CHOSEN_BY = ("top1", "mean_per_class", "map11")
OF_BATCH_NORMS = (
    "batch normalisations average with momentum max(10 / step, .1) in torch's sense (published: min(10 / s, .1), s steps an epoch)"
)
DIFFERS = (
    "weight decays as they are in the grid (published: divided by the learning rate)",
    OF_BATCH_NORMS,
    "images of one size, as CIFAR's, are resized whole in the test (published: to 256 pixels, of which the central 224)",
    "every set is normalised by the pretraining's means and deviations (the authors' code: CIFAR by its own)",
    "a seeded tenth is held out where a set has no validation split (published: another subset)",
    "Caltech101's 30 training images a class are one seeded draw (published: another draw)",
    "the classifier starts at zero, and an epoch's last, smaller batch is dropped (published: not said)",
    "settings are chosen by the grid, last step (the authors' code: one setting, the epoch best on the test images,"
    " on VOC2007 fixed batch statistics, ten random crops in the test, and scikit-learn's average precision)",
)


@dataclass
class Config(_finetune.Schedule):
    """Fine-tuning with a grid of rates and decays, chosen on validation images: the set's own, where it has them, else held-out ones."""

    metric: str = option(
        "top1",
        "what the grid is chosen by: top1 (CIFAR, Cars), mean_per_class (Pets, Caltech101, Flowers) or map11 (VOC2007)",
        choices=CHOSEN_BY,
    )
    learning_rates: list[float] = option([float(f"{v:.3g}") for v in np.logspace(-4, -1, 7)], "of the grid", above=0, filled=True)
    weight_decays: list[float] = option(
        [0.0, *(float(f"{v:.3g}") for v in np.logspace(-6, -3, 7))], "of the grid", least=0, filled=True
    )
    validation_share: float = option(0.1, "of the training images, where the set has no validation split", above=0, below=1)
    steps: int = option(20000, "of each training; 0: by epochs", least=0)
    norm_warmup: bool = option(
        True, "batch norms average faster at first: momentum max(10 / step, 0.1) in torch's sense (SimCLR, B.8)"
    )


check_encoder = _finetune.check_encoder


def measured(scores: np.ndarray, targets: np.ndarray, metric: str) -> float:
    """The metric in % of scores NxC for labels N, or for NxC of sets with several an image."""
    if (metric == "map11") != (targets.ndim == 2):
        raise UserError(f"metric {metric} does not fit: map11 is for sets with several labels an image, the others for one")
    if metric == "top1":
        return topk_accuracy(scores, targets, 1)
    if metric == "mean_per_class":
        return mean_per_class(confusion_matrix(scores.argmax(1), targets, scores.shape[1]))
    values = [average_precision(s[t >= 0], t[t >= 0] == 1, points=11) for s, t in zip(scores.T, targets.T, strict=True)]
    return float(np.nanmean(values))


def splits_of(config: Config, inputs, seed: int) -> tuple[Shards, torch.Tensor, torch.Tensor, str]:
    """All labelled images for training, the numbers to fit and those to choose on, and the words that say which these are."""
    if inputs.validation is not None:
        own = Shards(inputs.train)
        joined = Shards(inputs.train, inputs.validation)
        whole = torch.arange(joined.num_samples)
        fitting, validation = whole[: own.num_samples], whole[own.num_samples :]
        if not set(own.sources()) & set(joined.sources(validation)):
            return joined, fitting, validation, "the set's own validation split"
        # As VOC's trainval has val in it: those images are held out, and not counted twice.
        held = set(joined.sources(validation))
        inside = torch.tensor([source in held for source in own.sources()])
        if not inside.all():
            numbers = torch.arange(own.num_samples)
            return own, numbers[~inside], numbers[inside], "the set's own validation split, a part of its training split"
    shards = Shards(inputs.train)
    order = torch.randperm(shards.num_samples, generator=torch.Generator().manual_seed(seed))
    held_out = max(1, round(config.validation_share * len(order)))
    return (
        shards,
        order[held_out:].sort().values,
        order[:held_out].sort().values,
        f"{held_out} held-out training images, seed {seed}",
    )


def _name(rate: float, decay: float) -> str:
    return f"rate-{rate!r}-decay-{decay!r}"


def _pairs(config: Config) -> list[tuple[float, float]]:
    return [(rate, decay) for rate in config.learning_rates for decay in config.weight_decays]


def parts(config: Config) -> dict[str, dict]:
    """Every pair of the grid."""
    return {_name(rate, decay): {"learning_rates": [rate], "weight_decays": [decay]} for rate, decay in _pairs(config)}


def evaluate_part(config: Config, inputs: EncoderInputs, part: str, *, seed: int, device: str) -> dict:
    """`score`, the metric in % on the validation images of a network trained on the others; -1 if its loss did not stay finite."""
    shards, fitting, validation, _ = splits_of(config, inputs, seed)
    targets = _finetune.targets_of(shards).numpy()
    (rate,), (decay,) = config.learning_rates, config.weight_decays
    label = f"rate {rate}, decay {decay}"
    network, losses = _finetune.finetuned(inputs, shards, fitting, config, rate, decay, seed=seed, device=device, label=label)
    found = _finetune.scores_of(network, inputs, shards, device, validation).numpy()
    finite = np.isfinite(losses[-1]) and np.isfinite(found).all()
    return {"score": measured(found, targets[validation.numpy()], config.metric) if finite else -1.0}


def evaluate(config: Config, inputs: EncoderInputs, parts: dict[str, dict], *, seed: int, device: str) -> dict:
    """`score`, the metric in % on the test images, of a network trained on all images with the pair that was best on validation."""
    shards, fitting, validation, origin = splits_of(config, inputs, seed)
    grid = _pairs(config)
    tried = [parts[_name(rate, decay)]["score"] for rate, decay in grid]
    if max(tried) < 0:
        raise UserError("no pair of the grid kept a finite loss: lower learning_rates")
    rate, decay = grid[int(np.argmax(tried))]
    whole = torch.cat([fitting, validation]).sort().values
    network, losses = _finetune.finetuned(
        inputs, shards, whole, config, rate, decay, seed=seed, device=device, label="the best on all"
    )
    test = Shards(inputs.test)
    scores, truth = _finetune.scores_of(network, inputs, test, device).numpy(), _finetune.targets_of(test).numpy()
    details: dict = {"classes": shards.classes, "loss": losses}
    metrics = {"score": measured(scores, truth, config.metric), "validation_score": max(tried)}
    right: dict[str, np.ndarray] = {}
    if truth.ndim == 1:
        confusion = confusion_matrix(scores.argmax(1), truth, len(shards.classes))
        right = {f"top{k}": topk_right(scores, truth, k) for k in (1, 5)}
        metrics |= {name: accuracy(own) for name, own in right.items()} | {"mean_per_class": mean_per_class(confusion)}
        if config.metric == "top1":
            right["score"] = right["top1"]
        details |= {"confusion": confusion.tolist(), "accuracy_by_class": accuracy_by_class(confusion)}
    details["validation"] = [{"learning_rate": r, "weight_decay": d, "score": s} for (r, d), s in zip(grid, tried, strict=True)]
    return {
        "metrics": metrics,
        "protocol": {
            "kind": f"fine-tuning of all weights; score is {config.metric}",
            "optimiser": config.said(f", momentum {config.momentum:g}{', Nesterov' if config.nesterov else ''}")
            + f", {config.schedule}",
            "steps": config.steps or f"{config.epochs} epochs",
            "batch_size": min(config.batch_size, len(whole)),
            "differs": "; ".join(text for text in DIFFERS if text != OF_BATCH_NORMS or has_batch_norm(inputs.encoder)),
            "grid": f"{len(config.learning_rates)} learning rates x {len(config.weight_decays)} weight decays",
            "chosen": {"learning_rate": rate, "weight_decay": decay},
            "choice": f"best {config.metric} on {origin} ({len(validation)}), then trained on all {len(whole)}; last step",
            "crop": f"random crops {config.crop_scale} and flip {'on' if config.flip else 'off'} in training, whole or central in the test",
            "test_images": len(truth),
        },
        "details": details,
        "answers": {name: own.tolist() for name, own in right.items()},
    }
