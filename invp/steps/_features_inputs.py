"""The inputs of an evaluation that NEEDS features: the tables of both splits."""

from pathlib import Path

import numpy as np

from invp.data.tables import Rows, equal_classes, matrix
from invp.evals._inputs import FeatureInputs, FeatureTable
from invp.plumbing.config import instance
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_table
from invp.plumbing.jobs import Job
from invp.plumbing.memory import require
from invp.plumbing.plugins import load_plugin


def read(job: Job, takes_multi_label: bool) -> FeatureInputs:
    """Both tables; UserError if their classes differ, an image has several labels and the evaluation takes one, or memory is too small."""
    classes = equal_classes([job.input("train_data"), job.input("test_data")])
    inputs = FeatureInputs(*(feature_table(job.input(split), takes_multi_label) for split in ("train", "test")), classes)
    plugin = load_plugin("evals", job.section["evaluation"]["name"])
    if hasattr(plugin, "memory"):
        config = instance(plugin.Config, job.section["evaluation"])
        (train, width), test = getattr(inputs.train, getattr(config, "features", "feature")).shape, len(inputs.test.labels)
        rule = "evaluate" if getattr(plugin, "GPU", True) else "evaluate_on_cpu"
        require(plugin.memory(config, inputs), f"{train:,} training and {test:,} test images of {width:,} numbers", rule)
    return inputs


def feature_table(path: Path, takes_multi_label: bool) -> FeatureTable:
    """A features table; UserError if it has no labels, or several an image where the evaluation does not take them."""
    table = read_table(path)
    multi = matrix(table, "labels") if "labels" in table.column_names else None
    if multi is not None and not takes_multi_label:
        raise UserError(f"{path} has several labels an image, and this evaluation takes one: use svm")
    if multi is None and table["label"].null_count:
        raise UserError(f"{path} has images without a label: this evaluation needs labels")
    labels, index = table["label"].fill_null(-1).to_numpy().astype(np.int64), table["index"].to_numpy()
    return FeatureTable(Rows(path, "feature"), Rows(path, "embedding"), labels, index, multi)
