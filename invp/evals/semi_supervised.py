"""Fine-tuning with a small part of the labels (Table 2): a fixed, class-balanced subset, which metrics.json lists.

N images, C classes.
"""

from dataclasses import dataclass

import numpy as np
import torch

from invp.core.metrics import accuracy, accuracy_by_class, confusion_matrix, topk_right
from invp.data.shards import Shards
from invp.evals import _finetune
from invp.evals._inputs import EncoderInputs
from invp.models.encoders import has_batch_norm
from invp.plumbing.errors import UserError
from invp.plumbing.metrics import PERCENT
from invp.plumbing.options import option

NEEDS = "encoder"
METRICS = {"top*": PERCENT}
OF_BATCH_NORMS = "batch statistics of the whole batch (published: of each of four GPUs' 32 images)"
DIFFERS = (
    "each drop comes an epoch earlier, so that the full rate lasts 15 epochs (published: 16, and 4 at the last rate)",
    "the last epoch (published: of every second epoch the one best on the test images)",
    "the labelled images are a seeded draw, as many of each class, 13 for 1 % of ImageNet (published: a list that is not in the repository)",
    OF_BATCH_NORMS,
    "the classifier starts at zero (published: as torch's linear layers)",
    "an epoch's last, smaller batch is dropped (published: kept)",
)


@dataclass
class Config(_finetune.Schedule):
    """A share of the labels, the same number of each class (at least one), chosen by `subset_seed`, whatever the run's seed.

    The defaults are the authors' for ImageNet; no value is chosen on test images.
    """

    share: float = option(0.01, "of the labels", above=0, most=1)
    subset_seed: int = option(0, "of the choice of images", least=0)
    learning_rate: float = option(0.0012, "of the encoder", above=0)
    weight_decay: float = option(1e-5, "of all weights", least=0)
    epochs: int = option(30, "of the training, if steps is 0", least=1)
    batch_size: int = option(128, "images in a step; all, if there are fewer, which the protocol says", least=1)
    nesterov: bool = option(False, "Nesterov's momentum")
    schedule: str = option(
        "multistep", "multistep: after each of drops the encoder's rate alone is a tenth", choices=("cosine", "multistep")
    )
    drops: list[int] = option([15, 20, 25], "epochs of multistep", least=0, rising=True)
    head_factor: float = option(50.0, "the classifier's rate in that of the encoder", above=0)


check_encoder = _finetune.check_encoder


def subset_of(labels: np.ndarray, num_classes: int, share: float, seed: int) -> np.ndarray:
    """Numbers, ascending, of the images whose labels are used: of every class share x N / C, at least one."""
    each = max(1, round(share * len(labels) / num_classes))
    generator = np.random.default_rng(seed)
    chosen = []
    for label in range(num_classes):
        members = np.flatnonzero(labels == label)
        if len(members) < each:
            raise UserError(f"share {share:g} asks for {each} images of each class, but class {label} has {len(members)}")
        chosen.append(generator.choice(members, each, replace=False))
    return np.sort(np.concatenate(chosen))


def evaluate(config: Config, inputs: EncoderInputs, *, seed: int, device: str) -> dict:
    """Top-1 and top-5 in % on the test images after fine-tuning on the subset; the last epoch."""
    shards, test = Shards(inputs.train), Shards(inputs.test)
    labels = _finetune.targets_of(shards).numpy()
    subset = subset_of(labels, len(shards.classes), config.share, config.subset_seed)
    network, losses = _finetune.finetuned(
        inputs, shards, torch.from_numpy(subset), config, config.learning_rate, config.weight_decay, seed=seed, device=device,
        label=f"fine-tuning on {len(subset)} labels",
    )  # fmt: skip
    if not np.isfinite(losses[-1]):
        raise UserError(f"the loss is {losses[-1]} after {len(losses)} epochs: lower learning_rate ({config.learning_rate})")
    scores, truth = _finetune.scores_of(network, inputs, test, device).numpy(), test.labels.numpy()
    confusion = confusion_matrix(scores.argmax(1), truth, len(shards.classes))
    right = {f"top{k}": topk_right(scores, truth, k) for k in (1, 5)}
    return {
        "metrics": {name: accuracy(own) for name, own in right.items()},
        "protocol": {
            "kind": f"fine-tuning of all weights with {100 * config.share:g} % of the labels",
            "labels": f"{len(subset)}, {len(subset) // len(shards.classes)} of each class, seed {config.subset_seed}; details.subset",
            "optimiser": config.said("")
            + f", rate {config.learning_rate:g} (classifier x {config.head_factor:g}), weight decay {config.weight_decay:g}",
            "epochs": config.steps or config.epochs,
            "batch_size": min(config.batch_size, len(subset)),
            "choice": "nothing is chosen; last epoch",
            "differs": "; ".join(text for text in DIFFERS if text != OF_BATCH_NORMS or has_batch_norm(inputs.encoder)),
            "crop": f"random crops {config.crop_scale} and flip {'on' if config.flip else 'off'} in training, whole or central in the test",
            "test_images": len(truth),
        },
        "details": {
            "classes": shards.classes,
            "subset": subset.tolist(),
            "confusion": confusion.tolist(),
            "accuracy_by_class": accuracy_by_class(confusion),
            "loss": losses,
        },
        "answers": {name: own.tolist() for name, own in right.items()},
    }
