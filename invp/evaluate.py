"""One downstream evaluation of one stage: reads what the plug-in needs, and writes metrics.json with its protocol card."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from invp.config import instance
from invp.errors import UserError
from invp.files import read_json, read_table, write_json
from invp.plugins import load_plugin
from invp.tables import matrix


@dataclass
class FeatureTable:
    """Features of a split in memory: `feature` NxF, `embedding` NxD, `labels` N (int64), `index` N.

    Of multi-label sets `labels` is -1 and `multi_labels` NxC: 1 present, 0 absent, -1 only as objects marked difficult.
    """

    feature: np.ndarray
    embedding: np.ndarray
    labels: np.ndarray
    index: np.ndarray
    multi_labels: np.ndarray | None = None


@dataclass
class FeatureInputs:
    """What an evaluation of features gets."""

    train: FeatureTable
    test: FeatureTable
    classes: list[str]


@dataclass
class EncoderInputs:
    """What an evaluation of the encoder gets: networks, and prepared splits as folders."""

    encoder: Any
    head: Any
    train: Path
    test: Path
    classes: list[str]
    size: int
    mean: list[float]
    std: list[float]
    workers: int = 1
    validation: Path | None = None  # the set's own validation split, where the evaluation's VALIDATION asks for one


def feature_table(path: Path, several: bool) -> FeatureTable:
    """A features table; UserError if it has no labels, or `several` an image where the evaluation does not take them."""
    table = read_table(path)
    multi = matrix(table, "labels") if "labels" in table.column_names else None
    if multi is not None and not several:
        raise UserError(f"{path} has several labels an image, and this evaluation takes one: use svm")
    if multi is None and table["label"].null_count:
        raise UserError(f"{path} has images without a label: this evaluation needs labels")
    labels, index = table["label"].fill_null(-1).to_numpy().astype(np.int64), table["index"].to_numpy()
    return FeatureTable(matrix(table, "feature"), matrix(table, "embedding"), labels, index, multi)


def inputs_of(section: dict, inputs: dict[str, Path], needs: str, several: bool, workers: int = 1) -> Any:
    """The inputs in memory that a plug-in with these NEEDS gets; `several`: it takes several labels an image (its MULTI_LABEL)."""
    classes = read_json(inputs["train_data"])["classes"]
    if needs == "features":
        return FeatureInputs(feature_table(inputs["train"], several), feature_table(inputs["test"], several), classes)
    from invp.features import load_network

    encoder, head = load_network(section, inputs["checkpoint"])
    options = section["augmentation"]
    folders = inputs["train_data"].parent, inputs["test_data"].parent
    if not several and read_json(inputs["train_data"])["multi_label"]:
        raise UserError(f"{folders[0]} has several labels an image, and this evaluation takes one")
    validation = inputs["validation_data"].parent if "validation_data" in inputs else None
    return EncoderInputs(encoder, head, *folders, classes, options["size"], options["mean"], options["std"], workers, validation)


def run(section: dict, inputs: dict[str, Path], out: Path, record: dict, workers: int = 1) -> None:
    """Evaluates and writes metrics.json; a metric that is no finite number is an error."""
    plugin = load_plugin("evals", section["evaluation"]["name"])
    config = instance(plugin.Config, section["evaluation"])
    looked_at = inputs_of(section, inputs, plugin.NEEDS, getattr(plugin, "MULTI_LABEL", False), workers)
    result = plugin.evaluate(config, looked_at, seed=section["seed"], device=device())
    for name, value in result["metrics"].items():
        if not math.isfinite(value):
            raise UserError(f"{section['evaluation_name']} of {section['experiment']}: {name} is {value}")
    card = {
        "data": section["dataset"],
        "trained_on": section["pretraining_dataset"],
        "network": f"{section['encoder_name']}, head {section['head_kind']}",
        "objective": section["objective"],
        "epoch": f"{section['stage']} of {section['epochs']}, the last of its stage",
        "seed": section["seed"],
    }
    about = {
        "experiment": section["experiment"],
        "seed": section["seed"],
        "stage": section["stage"],
        "eval": section["evaluation_name"],
        "evaluation": section["evaluation"],
    }
    write_json(out, {**about, **result, "protocol": {**result["protocol"], **card}, "record": record})


def device() -> str:
    """cuda if the plug-in brought torch and it sees one, else cpu: an evaluation without torch does not wait for its import."""
    torch = sys.modules.get("torch")
    return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"
