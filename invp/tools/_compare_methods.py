"""The methods that `compare` knows, and their experiments for other images: N of them, seen for other epochs by another network."""

import math
from functools import cache
from pathlib import Path
from typing import Any

from invp.plumbing.errors import UserError
from invp.plumbing.experiments import experiment_names, load, read_yaml
from invp.plumbing.folders import EXPERIMENTS
from invp.plumbing.plugins import nearest, plugin_names
from invp.plumbing.sections import area_of_views, num_views

TRANSFORMER = "-vit"  # in the name of an experiment with one: all methods are compared with the same ResNet
# The experiment of an objective that several have, and whose name none of them has.
USUAL = {"moco": "moco-v2", "relational": "ressl", "neighbourhood_discovery": "and"}
UNTRAINED = "untrained"
CIFAR10, BALANCED = 50_000, 10  # training images, and classes, of the set that the experiments are for
SIZE = 32  # pixels of its images
FULL_SUMS = 10_000  # training images up to which denominators run over all of them
RAMP = 1 / 3  # of the training, after which InvP's positives count: its graph is worth little before
COUNTS_OF_EPOCHS = ("warmup_epochs", "queue_after", "frozen_epochs", "round_epochs")
QUEUES = ("num_keys", "num_rows", "queue_length")
PIXELS = ("patch_size", "stride")


@cache
def kinds() -> dict[str, str]:
    """Method -> the package's experiment that has it: `cifar10-simclr` is simclr, and `cifar10-small-rotation` is rotation.

    The variants of InvP in Table 5 of the paper are there for digits alone, whose objective they change: `digits-invp-knn-positives`.
    """
    found = {}
    names = experiment_names(EXPERIMENTS)
    for prefix in ("cifar10-small-", "cifar10-"):  # the latter come before the former of the same kind
        own = [name for name in names if name.startswith(prefix) and (prefix != "cifar10-" or "-small-" not in name)]
        own = [name for name in own if TRANSFORMER not in name]
        found |= {name.removeprefix(prefix): name for name in own}
    variants = [name for name in names if name.startswith("digits-invp-") and _changes(name)]
    return dict(sorted((found | {name.removeprefix("digits-"): name for name in variants}).items()))


def _changes(variant: str) -> dict[str, Any]:
    """What a variant of digits-invp changes in its objective, if that is all that it changes."""
    raw = read_yaml(EXPERIMENTS / f"{variant}.yaml")
    alone = raw.get("extends") == "digits-invp" and set(raw) <= {"extends", "title", "description", "objective"}
    return raw.get("objective", {}) if alone else {}


def chosen(names: list[str]) -> dict[str, str]:
    """Method -> the package's experiment, of names of kinds or of objectives; UserError for others, with what is valid.

    An untrained network is always among them, and comes last: what it reaches without any training is no merit of a method.
    """
    known = kinds()
    usual = {name: USUAL.get(name, name.replace("_", "-")) for name in plugin_names("objectives")}
    found = {}
    for name in names:
        kind = usual.get(name, name)
        if kind not in known:
            valid = sorted({*known, *(name for name, kind in usual.items() if kind in known)})
            near = nearest(name, valid)
            raise UserError(
                f"--methods: there is no '{name}'{near if near.startswith('; valid') else f'{near} Valid: ' + ', '.join(valid)}"
            )
        if kind in found:
            raise UserError(f"--methods names {kind} twice; valid: each once")
        found[kind] = known[kind]
    if not set(found) - {UNTRAINED}:
        raise UserError("--methods names nothing that is trained; valid: at least one other than untrained")
    found.pop(UNTRAINED, None)
    return {**found, UNTRAINED: known[UNTRAINED]}


def loaded(experiment: str) -> dict[str, Any]:
    """The package's experiment of a method, with what a variant of InvP changes."""
    if experiment.startswith("digits-"):
        base = load(EXPERIMENTS / "cifar10-invp.yaml")
        return {
            **base,
            "name": experiment,
            "title": load(EXPERIMENTS / f"{experiment}.yaml")["title"],
            "objective": {**base["objective"], **_changes(experiment)},
        }
    return load(EXPERIMENTS / f"{experiment}.yaml")


def parent_of(experiment: str) -> str:
    """What an experiment of the method extends: its objective is written whole."""
    return "cifar10-invp" if experiment.startswith("digits-") else experiment


def views_of(experiment: dict[str, Any]) -> float:
    """Views of full size of each image in a step."""
    return area_of_views(experiment, num_views(experiment["objective"]))


def adapted(source: dict[str, Any], images: int, epochs: int, setting: dict[str, Any]) -> dict[str, Any]:
    """The sections objective, views and training of a method for N training images seen for `epochs` epochs.

    `source` is the package's experiment for CIFAR-10; `setting` has the image `size`, the `batch_size`, the encoder's `features`,
    `precision` and `channels_last`. Counts of epochs keep their share of the training; queues, clusters and rows of noise are of at most
    half of the images; patches keep their share of the image.
    """
    before, batch = source["training"]["epochs"], setting["batch_size"]
    number = source["dataset"].get("per_class", 0) * BALANCED or CIFAR10
    objective = {"name": source["objective"]["name"]}
    for key, value in source["objective"].items():
        if key != "name":
            objective[key] = _option(
                key, value, source["objective"], images, images / number, epochs / max(1, before), {**setting, "epochs": epochs}
            )
    training = dict(source["training"])
    training |= {
        "epochs": epochs,
        "batch_size": batch,
        "precision": setting["precision"],
        "channels_last": setting["channels_last"],
    }
    training["learning_rate"] = source["training"]["learning_rate"] * batch / source["training"]["batch_size"]
    training["warmup_epochs"] = round(training["warmup_epochs"] * epochs / max(1, before))
    training["drops"] = sorted({max(1, round(drop * epochs / before)) for drop in training["drops"]})
    changed = {key: value for key, value in training.items() if value != source["training"][key] or key in ("epochs", "batch_size")}
    return {"objective": objective, "views": _views(source, setting["size"]), "training": changed}


# What one option becomes depends on all of these.
def _option(key: str, value: Any, objective: dict, images: int, share: float, longer: float, setting: dict) -> Any:
    """An option of an objective for other images: `share` is how many there are of those that it was chosen for, `longer` the same of epochs."""
    batch, half = setting["batch_size"], images // 2
    if key == "ramp_epoch":
        return round(RAMP * setting["epochs"])
    if key == "num_negatives":
        drawn = objective.get("loss") in ("nce", "infonce")
        return min(value, half) if drawn else 0 if images <= FULL_SUMS else value
    if key in COUNTS_OF_EPOCHS:
        return max(1, math.ceil(value * longer)) if value else 0
    if key in QUEUES:
        return max(batch, min(value, half) // batch * batch) if value else 0
    if key == "num_clusters":
        few = [max(2, round(each * min(1.0, share))) for each in (value if isinstance(value, list) else [value])]
        return few if isinstance(value, list) else few[0]
    if key in ("num_background", "num_prototypes"):
        return min(value, half)
    if key == "components":
        return min(value, setting["features"], half)
    if key in ("num_positives", "num_neighbours"):
        return min(value, images // 3)
    if key == "norm_group":
        return min(value, batch)
    if key in PIXELS and value:
        return max(1, round(value * setting["size"] / SIZE))
    return value


def _views(source: dict[str, Any], size: int) -> list[dict[str, Any]]:
    """The kinds of view with what differs from the section `augmentation`, each as large a share of `size` as it was."""
    common = source["augmentation"]
    kinds = []
    for view in source["views"]:
        kind = {key: value for key, value in view.items() if key not in ("size", "count") and value != common[key]}
        kind |= {"count": view["count"]} if view["count"] > 1 else {}
        kind |= {"size": max(8, round(view["size"] * size / common["size"]))} if view["size"] != common["size"] else {}
        kinds.append(kind)
    return kinds


def title_of(source: dict[str, Any], folder: Path) -> str:
    """The method's title without the set that it was for: 'SimCLR, photos'."""
    return f"{source['title'].split(', CIFAR-10')[0].split(', 10,000')[0]}, {folder.name}"
