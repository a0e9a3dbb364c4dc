"""Columns of Arrow tables as arrays. N rows, K numbers each."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa

from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json, read_table


def fixed_size_list(values: np.ndarray) -> pa.FixedSizeListArray:
    """NxK numbers as N lists of K."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])


def matrix(table: pa.Table, column: str) -> np.ndarray:
    """A column of fixed-size lists as NxK numbers."""
    values = table[column].combine_chunks()
    return values.flatten().to_numpy().reshape(len(table), -1)


def labels_of(dataset: Path) -> np.ndarray | None:
    """The labels of a prepared split in the order of index, or None for multi-label and unlabelled sets."""
    manifest = read_json(dataset / "manifest.json")
    columns = [read_table(dataset / shard["file"])["label"] for shard in manifest["shards"]]
    labels = pa.chunked_array([chunk for column in columns for chunk in column.chunks], columns[0].type)
    return None if labels.null_count else labels.to_numpy().astype(np.int64)


def read_curves(paths: list[Path]) -> list[dict]:
    """The rows of the stages' metrics.jsonl, in the order of epochs."""
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def equal_classes(manifests: list[Path]) -> list[str]:
    """The classes of splits that are used together; UserError says how they differ, since labels count in their order."""
    first = read_json(manifests[0])["classes"]
    for path in manifests[1:]:
        other = read_json(path)["classes"]
        if other != first:
            differing = sorted(set(first) ^ set(other)) or ["their order"]
            raise UserError(
                f"{manifests[0]} and {path} have other classes: {', '.join(map(str, differing[:10]))}; labels would not agree"
            )
    return first
