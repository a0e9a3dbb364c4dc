"""What can be read out linearly of every layer: category, and known numbers as position, pose and size (Fig. 1E of the study in PNAS).

N images, F features of a layer, T targets.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

from invp.data.shards import Shards
from invp.evals._inputs import EncoderInputs
from invp.evals.linear_blocks import block_features
from invp.plumbing.metrics import CORRELATION, PERCENT
from invp.plumbing.options import option

NEEDS = "encoder"
METRICS = {"category*": PERCENT, "*": CORRELATION}
DIFFERS = (
    "features of a layer are pooled before the principal components (published: all of them)",
    "images are any set's with known numbers, as composites' (published: rendered objects on photographs)",
    "the values of C are ours (published: not known to us)",
    "a seed is one network (published: three networks, over which comparison.html takes means and t-tests)",
)


@dataclass
class Config:
    """Features of each layer, reduced by principal components; for each of several seeded splits a linear SVM for the category and a
    linear SVR for each target, their C chosen on images of the training split with little variation."""

    pool: str = option("published", "global: one number a channel; published: about 9,216 numbers", choices=("global", "published"))
    components: int = option(1000, "principal components", least=1)
    splits: int = option(4, "seeded splits", least=1)
    training_share: float = option(0.8, "of the images in each split", above=0, below=1)
    costs: list[float] = option([1e-3, 1e-2, 1e-1], "values of C", above=0, filled=True)
    iterations: int = option(2000, "of the solver, at most", least=1)
    read_batch: int = option(256, "images in a pass of the encoder", least=1)


def correlation(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Pearson's r, 0 where either does not vary."""
    if predicted.std() == 0 or truth.std() == 0:
        return 0.0
    return float(np.corrcoef(predicted, truth)[0, 1])


def score(
    task: str, train: np.ndarray, known: np.ndarray, test: np.ndarray, truth: np.ndarray, cost: float, config: Config
) -> float:
    """Accuracy in % of the category, or Pearson's r of a target, of test images (features QxF, truth Q)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        if task == "category":
            machine = LinearSVC(C=cost, max_iter=config.iterations, random_state=0, dual=len(train) < train.shape[1])
            return 100 * float((machine.fit(train, known).predict(test) == truth).mean())
        machine = LinearSVR(C=cost, max_iter=config.iterations, random_state=0, loss="squared_epsilon_insensitive", dual=False)
        mean, deviation = known.mean(), known.std() + 1e-12
        return correlation(machine.fit(train, (known - mean) / deviation).predict(test), truth)


def parts(config: Config) -> dict[str, dict]:
    """Every split."""
    return {f"split-{split}": {"splits": 1} for split in range(config.splits)}


def _tasks(train: Shards, test: Shards) -> tuple[dict[str, tuple[np.ndarray, np.ndarray]], np.ndarray | None]:
    """What is read out, by name: the truth of the training and of the test images; and how much each training image varies, if known."""
    targets, wanted = train.targets(), test.targets()
    variation = targets.pop("variation", None)
    return {name: (targets[name], wanted[name]) for name in targets}, variation


def _reduced(train: np.ndarray, test: np.ndarray, components: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of a layer, NxF and QxF, standardised and reduced to the principal components of the training images."""
    standard = StandardScaler().fit(train.astype(np.float32))
    rows, queries = (standard.transform(each.astype(np.float32)) for each in (train, test))
    count = min(components, *rows.shape)
    if count == rows.shape[1]:
        return rows, queries
    solver = "randomized" if count < 0.8 * min(rows.shape) else "full"
    reduction = PCA(count, svd_solver=solver, random_state=seed).fit(rows)
    rows, queries = reduction.transform(rows), reduction.transform(queries)
    scale = rows.std()
    return rows / scale, queries / scale


def evaluate_part(config: Config, inputs: EncoderInputs, part: str, *, seed: int, device: str) -> dict:
    """Of one split, by task and layer: `found`, the number on the test images, and `held`, the best of C on held-out images."""
    split = int(part.removeprefix("split-"))
    numbers, variation = _tasks(Shards(inputs.train), Shards(inputs.test))
    train, labels = block_features(inputs, inputs.train, config, device)
    test, truth = block_features(inputs, inputs.test, config, device)
    tasks = {"category": (labels, truth), **numbers}
    order = np.random.default_rng((seed, split)).permutation(len(labels))
    cut = round(config.training_share * len(labels))
    fitting, validation = order[:cut], order[cut:]
    if variation is not None:  # C is chosen where the variation is low or middling, as published; where it is not known, on all
        validation = validation[(variation < variation.max())[validation]]
    found: dict[str, dict[str, float]] = {task: {} for task in tasks}
    held: dict[str, dict[str, float]] = {task: {} for task in tasks}
    for layer in train:
        rows, queries = _reduced(train[layer], test[layer], config.components, seed)
        for task, (known, right) in tasks.items():
            tried = [
                score(task, rows[fitting], known[fitting], rows[validation], known[validation], cost, config)
                for cost in config.costs
            ]
            best = int(np.argmax(tried))
            held[task][layer] = tried[best]
            found[task][layer] = score(task, rows[fitting], known[fitting], queries, right, config.costs[best], config)
    return {"found": found, "held": held}


def evaluate(config: Config, inputs: EncoderInputs, parts: dict[str, dict], *, seed: int, device: str) -> dict:
    """Of every layer and task the mean over the splits, `{task}_{layer}`; of the layer that was best on held-out images, `{task}`."""
    splits = list(parts.values())
    layers = list(splits[0]["found"]["category"])
    readouts = {task: {layer: [split["found"][task][layer] for split in splits] for layer in layers} for task in splits[0]["found"]}
    metrics = {f"{task}_{layer}": float(np.mean(values)) for task, own in readouts.items() for layer, values in own.items()}
    best_layers = {
        task: max(layers, key=lambda layer, task=task: float(np.mean([split["held"][task][layer] for split in splits])))
        for task in readouts
    }
    test = Shards(inputs.test)
    varies = _tasks(Shards(inputs.train), test)[1] is not None
    return {
        "metrics": metrics | {task: metrics[f"{task}_{layer}"] for task, layer in best_layers.items()},
        "protocol": {
            "kind": "linear read-outs of every layer: SVM (category, %), SVR (numbers, Pearson's r)",
            "features": f"{len(layers)} layers, {config.pool} pooling, standardised, at most {config.components} principal components",
            "splits": f"{config.splits} seeded splits, {config.training_share:g} of the training images each; the test images are the same",
            "choice": "C of each split on its held-out training images"
            + (" of low and middling variation" if varies else "")
            + "; `task` without a layer is that of the layer best there",
            "chosen": best_layers,
            "differs": "; ".join(DIFFERS),
            "test_images": test.num_samples,
            "crop": "whole image, of photographs the central crop, no augmentation",
        },
        "details": {"layers": layers, "readouts": readouts},
    }
