"""Linear SVMs on frozen features, one a class, their C by cross-validation: the protocol of VOC2007 (Goyal et al., ICCV 2019).

N training images, Q test images, C classes.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.model_selection import cross_val_score
from sklearn.svm import LinearSVC

from invp.core.metrics import average_precision
from invp.data.tables import unit_rows
from invp.evals._inputs import FeatureInputs
from invp.plumbing.errors import UserError
from invp.plumbing.metrics import PERCENT
from invp.plumbing.options import option

NEEDS = "features"
GPU = False
METRICS = {"map*": PERCENT, "validation_map": PERCENT}
MULTI_LABEL = True
DIFFERS = (
    "features are divided by their length (published: by their length + 1e-5)",
    "scikit-learn takes the primal or the dual solver by the sizes (published: the dual)",
    "the encoder's pooled output (published: a layer not known to us, since the authors' repository has no SVM)",
)


@dataclass
class Config:
    """A linear SVM for each class, its C chosen by cross-validation inside the training images."""

    costs: list[float] = option([0.01, 0.1, *(0.5**n for n in range(4, 20))], "values of C", above=0, filled=True)
    folds: int = option(3, "of the cross-validation", least=2)
    positive_weight: float = option(2.0, "how often a positive counts", above=0)
    features: str = option("feature", "feature: the encoder's output; embedding: the head's", choices=("feature", "embedding"))
    iterations: int = option(2000, "of the solver, at most", least=1)


def targets(part, num_classes: int) -> np.ndarray:
    """Images x C: 1 present, 0 absent, -1 not to be counted; of sets with one label an image, one 1 a row."""
    if part.multi_labels is not None:
        return part.multi_labels
    return (part.labels[:, None] == np.arange(num_classes)).astype(np.int8)


def machine(config: Config, cost: float, seed: int) -> LinearSVC:
    weights = {True: config.positive_weight, False: 1.0}
    return LinearSVC(C=cost, class_weight=weights, loss="squared_hinge", max_iter=config.iterations, random_state=seed)


def memory(config: Config, inputs: FeatureInputs) -> int:
    """Bytes: all features in float64, those of a fold and its rest again, and of what is trained on a number and its column (liblinear)."""
    train, test = (getattr(part, config.features) for part in (inputs.train, inputs.test))
    share = (config.folds - 1) / config.folds
    return int(8 * train.shape[1] * (len(train) * (2 + 2 * share) + len(test)))


def evaluate(config: Config, inputs: FeatureInputs, *, seed: int, device: str) -> dict:
    """Mean average precision in %, by the envelope and by eleven points; images that are only difficult do not count in the test."""
    train, test = (unit_rows(getattr(part, config.features), np.float64) for part in (inputs.train, inputs.test))
    known, truth = targets(inputs.train, len(inputs.classes)), targets(inputs.test, len(inputs.classes))
    found = []
    for number, name in enumerate(inputs.classes):
        positive = known[:, number] == 1  # what is only difficult is a negative in training, as published
        if min(positive.sum(), (~positive).sum()) < config.folds:
            raise UserError(
                f"class {name} has {positive.sum()} of {len(positive)} training images, too few for {config.folds} folds"
            )
        precisions = [
            cross_val_score(machine(config, cost, seed), train, positive, cv=config.folds, scoring="average_precision").mean()
            for cost in config.costs
        ]
        cost = config.costs[int(np.argmax(precisions))]
        scores = machine(config, cost, seed).fit(train, positive).decision_function(test)
        counted = truth[:, number] >= 0
        own = scores[counted], truth[counted, number] == 1
        values = {"ap": average_precision(*own), "ap11": average_precision(*own, points=11)}
        found.append({"class": name, "cost": cost, "validation_ap": 100 * float(max(precisions)), **values})
    tested = [row for row in found if not np.isnan(row["ap"])]
    if not tested:
        raise UserError("no class has a positive test image")
    return {
        "metrics": {
            "map": float(np.mean([row["ap"] for row in tested])),
            "map11": float(np.mean([row["ap11"] for row in tested])),
            "validation_map": float(np.mean([row["validation_ap"] for row in found])),
        },
        "protocol": {
            "kind": "one linear SVM a class on cached, L2-normalised features, squared hinge",
            "features": "encoder's pooled output" if config.features == "feature" else "head's output",
            "grid": f"{len(config.costs)} values of C",
            "choice": f"{config.folds}-fold cross-validated average precision on the training images, for each class",
            "chosen": {row["class"]: row["cost"] for row in found},
            "positive_weight": config.positive_weight,
            "differs": "; ".join(DIFFERS),
            "test_images": len(test),
            "crop": "whole image, of photographs the central crop, no augmentation",
        },
        "details": {
            "classes": inputs.classes,
            "average_precision": [{k: None if v != v else v for k, v in row.items()} for row in found],
        },
    }
