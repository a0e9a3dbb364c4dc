"""The inputs of an evaluation that NEEDS features: the tables of both splits in memory."""

from pathlib import Path

import numpy as np

from invp.data.tables import equal_classes, matrix
from invp.evals._inputs import FeatureInputs, FeatureTable
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_table
from invp.plumbing.jobs import Job


def read(job: Job, takes_multi_label: bool) -> FeatureInputs:
    """Both tables; UserError if their classes differ, or an image has several labels and the evaluation takes one."""
    classes = equal_classes([job.input("train_data"), job.input("test_data")])
    return FeatureInputs(*(feature_table(job.input(split), takes_multi_label) for split in ("train", "test")), classes)


def feature_table(path: Path, takes_multi_label: bool) -> FeatureTable:
    """A features table; UserError if it has no labels, or several an image where the evaluation does not take them."""
    table = read_table(path)
    multi = matrix(table, "labels") if "labels" in table.column_names else None
    if multi is not None and not takes_multi_label:
        raise UserError(f"{path} has several labels an image, and this evaluation takes one: use svm")
    if multi is None and table["label"].null_count:
        raise UserError(f"{path} has images without a label: this evaluation needs labels")
    labels, index = table["label"].fill_null(-1).to_numpy().astype(np.int64), table["index"].to_numpy()
    return FeatureTable(matrix(table, "feature"), matrix(table, "embedding"), labels, index, multi)
