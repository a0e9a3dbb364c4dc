"""Linear SVMs on frozen features from k images a class: low-shot VOC2007 (Goyal et al., ICCV 2019).

N training images, Q test images, C classes.
"""

import sys
from dataclasses import dataclass

import numpy as np

from invp.core.metrics import average_precision
from invp.data.tables import unit_rows
from invp.evals import svm
from invp.evals._inputs import FeatureInputs
from invp.plumbing.errors import UserError
from invp.plumbing.metrics import PERCENT, Metric
from invp.plumbing.options import option

NEEDS = "features"
GPU = False
METRICS = {"map_k*": PERCENT, "deviation_k*": Metric("%", "")}
MULTI_LABEL = True
DIFFERS = (
    "C is 0.1 (published: of several values the one best on the test images, for each k)",
    "five seeded draws (published: five draws whose lists are not in the repository)",
    "deviations over draws are divided by one less than the draws (published: by the draws)",
    *svm.DIFFERS[:2],
)


@dataclass
class Config:
    """A linear SVM for each class, each number of its images and each draw."""

    shots: list[int] = option(
        [1, 2, 4, 8, 16, 32, 64, 96], "k, images of a class; more than the smallest class has are left out", least=1, filled=True
    )
    draws: int = option(5, "seeded draws of images, the same for every network", least=2)
    cost: float = option(0.1, "C", above=0)
    positive_weight: float = option(2.0, "how often a positive counts", above=0)
    features: str = option("feature", "feature: the encoder's output; embedding: the head's", choices=("feature", "embedding"))
    iterations: int = option(2000, "of the solver, at most", least=1)


def memory(config: Config, inputs: FeatureInputs) -> int:
    """Bytes: all features in float64, and those of the largest draw with a copy."""
    train, test = (getattr(part, config.features) for part in (inputs.train, inputs.test))
    drawn = min(len(train), max(config.shots) * len(inputs.classes))
    return 8 * train.shape[1] * (len(train) + len(test) + 2 * drawn)


def drawn(known: np.ndarray, shots: int, draw: int) -> list[np.ndarray]:
    """For each class the numbers of the images of one draw, ascending: k = `shots` that have it and (C - 1) k that have not, or all.

    `known` is NxC: 1 present, 0 absent, -1 only difficult, which is never drawn.
    """
    generator, chosen = np.random.default_rng([shots, draw]), []
    for labels in known.T:
        having = generator.permutation(np.flatnonzero(labels == 1))[:shots]
        others = generator.permutation(np.flatnonzero(labels == 0))[: shots * (known.shape[1] - 1)]
        chosen.append(np.sort(np.concatenate([having, others])))
    return chosen


def precisions(config: Config, known: np.ndarray, truth: np.ndarray, train: np.ndarray, test: np.ndarray, seed: int) -> dict:
    """k -> average precision in % of every draw and class, draws x C; NaN for a class without a positive test image."""
    smallest, found = int((known == 1).sum(0).min()), {}
    for shots in sorted(k for k in set(config.shots) if k <= smallest):
        found[shots] = np.full((config.draws, known.shape[1]), np.nan)
        for draw in range(config.draws):
            for number, own in enumerate(drawn(known, shots, draw)):
                fitted = svm.machine(config, config.cost, seed).fit(train[own], known[own, number] == 1)
                counted = truth[:, number] >= 0
                scores = fitted.decision_function(test[counted])
                found[shots][draw, number] = average_precision(scores, truth[counted, number] == 1)
    return found


def evaluate(config: Config, inputs: FeatureInputs, *, seed: int, device: str) -> dict:
    """Mean average precision in % for every k, and its standard deviation over draws; what is only difficult does not count."""
    classes = inputs.classes
    known, truth = svm.targets(inputs.train, len(classes)), svm.targets(inputs.test, len(classes))
    counts = (known == 1).sum(0)
    if len(classes) < 2:
        raise UserError("there is one class, and an SVM tells images of it from others")
    if min(config.shots) > counts.min():
        least = int(counts.argmin())
        raise UserError(f"class {classes[least]} has {counts[least]} training images, fewer than any of shots, {config.shots}")
    train, test = (unit_rows(getattr(part, config.features), np.float64) for part in (inputs.train, inputs.test))
    found = precisions(config, known, truth, train, test, seed)
    tested = ~np.isnan(next(iter(found.values()))[0])
    if not tested.any():
        raise UserError("no class has a positive test image")
    left_out = sorted(set(config.shots) - set(found))
    if left_out:
        print(f"low_shot_svm: no k of {left_out}: the smallest class has {counts.min()} images", file=sys.stderr)
    means = {shots: values[:, tested].mean(1) for shots, values in found.items()}  # of each draw
    by_class = {shots: values.mean(0) for shots, values in found.items()}
    metrics = {f"map_k{shots}": float(values.mean()) for shots, values in means.items()}
    return {
        "metrics": metrics | {f"deviation_k{shots}": float(values.std(ddof=1)) for shots, values in means.items()},
        "protocol": {
            "kind": f"one linear SVM a class on k of its images and {len(classes) - 1} k others, L2-normalised features, squared hinge",
            "features": "encoder's pooled output" if config.features == "feature" else "head's output",
            "k": list(found),
            **({"left_out": f"k of {left_out}: the smallest class has {counts.min()} training images"} if left_out else {}),
            "draws": f"{config.draws}, seeded, the same for every network; mean and standard deviation over them",
            "cost": config.cost,
            "choice": "nothing is chosen",
            "positive_weight": config.positive_weight,
            "differs": "; ".join(DIFFERS),
            "test_images": len(test),
            "crop": "whole image, of photographs the central crop, no augmentation",
        },
        "details": {
            "classes": classes,
            "average_precision": [
                {
                    "class": name,
                    **{f"k{shots}": float(values[number]) if tested[number] else None for shots, values in by_class.items()},
                }
                for number, name in enumerate(classes)
            ],
            "draws": {str(shots): values.tolist() for shots, values in means.items()},
        },
    }
