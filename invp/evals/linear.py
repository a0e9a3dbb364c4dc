"""Linear classification on cached features: a grid of learning rates and weight decays trained together, chosen on validation.

N training images, G heads of the grid, B batch, F features, C classes.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from invp.core.metrics import accuracy, accuracy_by_class, confusion_matrix, topk_right
from invp.data.tables import BLOCK, Rows, blocks
from invp.evals._inputs import FeatureInputs
from invp.plumbing.metrics import PERCENT
from invp.plumbing.options import option

NEEDS = "features"
METRICS = {"top*": PERCENT, "validation_top1": PERCENT}
VALIDATED = 1024  # held-out images whose scores by every head are in memory at a time
STANDARDISED = (
    "features are standardised by the training images"
    " (published: batch normalisation with weights, but in evaluation mode all along, so that its mean stays 0 and its variance 1)"
)
AT_ZERO = "weights start at zero (published: normal, SD .01)"
DIFFERS = (
    "cached features of whole images or central crops (published: random crops and flips, 120 epochs)",
    "the encoder's pooled output (published: of the last four of 17 blocks the one best on the test images)",
    "rate and decay chosen on held-out training images, cosine (published: rate 1.0, no decay, a tenth after 50, 80 and 100 epochs)",
    STANDARDISED,
    AT_ZERO,
)


@dataclass
class Grid:
    """SGD with momentum 0.9 and a cosine schedule, on standardised features, for every pair of learning rate and weight decay."""

    learning_rates: list[float] = option([0.01, 0.03, 0.1, 0.3, 1.0], "of the grid", above=0, filled=True)
    weight_decays: list[float] = option([0.0, 1e-5, 1e-4, 1e-3], "of the grid", least=0, filled=True)
    epochs: int = option(30, "of the training", least=1)
    batch_size: int = option(256, "images in a step; all, if there are fewer, which the protocol says", least=1)
    validation_share: float = option(0.1, "of the training images, on which a pair is chosen", above=0, below=1)

    def pairs(self) -> list[tuple[float, float]]:
        """(learning rate, weight decay) of every head."""
        return [(rate, decay) for rate in self.learning_rates for decay in self.weight_decays]


@dataclass
class Config(Grid):
    """A linear classifier on stored features."""

    features: str = option("feature", "feature: the encoder's output; embedding: the head's", choices=("feature", "embedding"))


class Heads:
    """All heads of a grid of (learning rate, weight decay), which lie side by side, FxCxG, and start at zero.

    So a step is two products of matrices for all of them, and each is trained as if it were alone. A softmax head's gradient needs no
    autograd: p - y.
    """

    def __init__(self, num_features: int, num_classes: int, grid: list[tuple[float, float]], device: torch.device | str):
        self.rate, self.decay = torch.tensor(grid, device=device).T
        self.weight = torch.zeros(num_features, num_classes, len(grid), device=device)
        self.bias = torch.zeros(num_classes, len(grid), device=device)
        self.momenta = torch.zeros_like(self.weight), torch.zeros_like(self.bias)

    def scores(self, features: Tensor) -> Tensor:
        """Scores of features BxF by every head, BxCxG."""
        flat = torch.addmm(self.bias.view(-1), features, self.weight.view(len(self.weight), -1))
        return flat.view(len(features), *self.bias.shape)

    def step(self, features: Tensor, labels: Tensor, scale: float) -> None:
        """One step of SGD with momentum 0.9 on a batch (BxF, B) at `scale` times each head's rate."""
        error = torch.softmax(self.scores(features), 1)
        error[torch.arange(len(labels), device=labels.device), labels] -= 1
        error /= len(labels)
        slope = torch.mm(features.T, error.view(len(labels), -1)).view_as(self.weight).addcmul_(self.weight, self.decay)
        for value, momentum, gradient in zip((self.weight, self.bias), self.momenta, (slope, error.sum(0)), strict=True):
            momentum.mul_(0.9).add_(gradient)
            value.addcmul_(momentum, self.rate, value=-scale)


# Eight parameters: three of them are the schedule.
def train_heads(features: Tensor, labels: Tensor, num_classes: int, grid: list[tuple[float, float]], *, epochs: int,
                batch_size: int, seed: int, images: Tensor | None = None) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Trains all heads of the grid in one pass, with a cosine schedule: weights GxFxC and biases GxC. `images`: the rows trained on."""
    heads = Heads(features.shape[1], num_classes, grid, features.device)
    images = torch.arange(len(features), device=features.device) if images is None else images
    steps = -(-len(images) // batch_size)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for step, index in enumerate(order.split(batch_size)):
            index = images[index.to(features.device)]
            scale = 0.5 * (1 + math.cos(math.pi * (epoch * steps + step) / (epochs * steps)))
            heads.step(features.index_select(0, index), labels[index], scale)
    return heads.weight.permute(2, 0, 1).contiguous(), heads.bias.T.contiguous()


@dataclass
class Probe:
    """A head that was chosen on held-out training images and trained again on all: its scores of the test images, QxC."""

    scores: np.ndarray
    chosen: tuple[float, float]  # learning rate, weight decay
    accuracies: list[float]  # shares that were right on the held-out images, a number a pair of the grid
    held: int


def probe(config: Grid, train: Tensor, test: Tensor, labels: Tensor, num_classes: int, seed: int) -> Probe:
    """Standardises features (NxF and QxF) by the training images, in place, trains the grid, chooses, and trains the best on all."""
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    for rows in (train, test):
        rows.sub_(mean).div_(deviation)
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed)).to(train.device)
    held = max(1, round(config.validation_share * len(train)))
    validation, fitting = order[:held], order[held:]
    grid = config.pairs()
    schedule = {"epochs": config.epochs, "batch_size": config.batch_size, "seed": seed}
    weight, bias = train_heads(train, labels, num_classes, grid, **schedule, images=fitting)
    right = torch.zeros(len(grid), dtype=torch.long, device=train.device)
    for images in validation.split(VALIDATED):
        scores = torch.matmul(train[images], weight).add_(bias[:, None])
        right += (scores.argmax(2) == labels[images]).sum(1)
    accuracies = right / held
    best = int(accuracies.argmax())
    weight, bias = train_heads(train, labels, num_classes, [grid[best]], **schedule)
    return Probe((test @ weight[0] + bias[0]).cpu().numpy(), grid[best], accuracies.tolist(), held)


def card(config: Grid, chosen: tuple[float, float], held: int, training_images: int, test_images: int, seed: int) -> dict:
    """What both linear evaluations say of how their numbers came about."""
    return {
        "optimiser": "SGD, momentum 0.9, cosine, softmax loss",
        "epochs": config.epochs,
        "batch_size": min(config.batch_size, training_images),
        "grid": f"{len(config.learning_rates)} learning rates x {len(config.weight_decays)} weight decays",
        "chosen": {"learning_rate": chosen[0], "weight_decay": chosen[1]},
        "choice": f"best on {held} held-out training images (seed {seed}), then trained on all {training_images}; last epoch",
        "test_images": test_images,
        "crop": "whole image, of photographs the central crop, no augmentation",
    }


def memory(config: Config, inputs: FeatureInputs) -> int:
    """Bytes: all features, unless they go to a GPU, and two blocks of them; weights, momenta, slopes and a copy of the weights of all heads; scores."""
    train, test = (getattr(part, config.features) for part in (inputs.train, inputs.test))
    heads, classes = len(config.pairs()), len(inputs.classes)
    rows = 0 if torch.cuda.is_available() else len(train) + len(test)
    scores = 2 * heads * max(VALIDATED, 2 * config.batch_size) + 4 * len(test)
    return 4 * (train.shape[1] * (rows + 2 * BLOCK + 4 * heads * classes) + scores * classes)


def on_device(rows: np.ndarray | Rows, device: str) -> Tensor:
    """The rows as float32 in memory of the device, with one block of them on the node."""
    found = torch.empty(rows.shape, device=device)
    for at, part in blocks(rows):
        found[at] = torch.from_numpy(np.asarray(part, np.float32))
    return found


def evaluate(config: Config, inputs: FeatureInputs, *, seed: int, device: str) -> dict:
    """Top-1 and top-5 in % of the head that was best on a seeded validation split, trained again on all training images."""
    train, test = (on_device(getattr(part, config.features), device) for part in (inputs.train, inputs.test))
    labels = torch.from_numpy(inputs.train.labels).to(device)
    found = probe(config, train, test, labels, len(inputs.classes), seed)
    truth = inputs.test.labels
    confusion = confusion_matrix(found.scores.argmax(1), truth, len(inputs.classes))
    right = {f"top{k}": topk_right(found.scores, truth, k) for k in (1, 5)}
    grid = config.pairs()
    return {
        "metrics": {name: accuracy(own) for name, own in right.items()} | {"validation_top1": 100 * max(found.accuracies)},
        "protocol": {
            "kind": "linear classifier on cached, standardised features",
            "features": "encoder's pooled output" if config.features == "feature" else "head's output",
            **card(config, found.chosen, found.held, len(train), len(test), seed),
            "differs": "; ".join(DIFFERS),
        },
        "details": {
            "classes": inputs.classes,
            "confusion": confusion.tolist(),
            "accuracy_by_class": accuracy_by_class(confusion),
            "validation": [
                {"learning_rate": r, "weight_decay": d, "top1": 100 * a} for (r, d), a in zip(grid, found.accuracies, strict=True)
            ],
        },
        "answers": {name: own.tolist() for name, own in right.items()},
    }
