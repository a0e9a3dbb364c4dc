"""Columns of Arrow tables as arrays. N rows, K numbers each."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa

from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json, read_table

BLOCK = 4096  # rows that are read at a time


def fixed_size_list(values: np.ndarray) -> pa.FixedSizeListArray:
    """NxK numbers as N lists of K."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])


def matrix(table: pa.Table, column: str) -> np.ndarray:
    """A column of fixed-size lists as NxK numbers."""
    values = table[column].combine_chunks()
    return values.flatten().to_numpy().reshape(len(table), -1)


class Rows:
    """The NxK numbers of a column of an Arrow file, read when they are asked for: `rows[a:b]`, or all by `numpy.asarray(rows)`.

    What comes is a copy. UserError if the file is missing or damaged.
    """

    def __init__(self, path: Path, column: str):
        table = read_table(path)  # mapped: of the numbers nothing is read
        kind = table.schema.field(column).type
        self.shape, self.dtype = (len(table), kind.list_size), np.dtype(kind.value_type.to_pandas_dtype())
        self._starts = np.cumsum([0, *(len(chunk) for chunk in table[column].chunks)])
        options = pa.ipc.IpcReadOptions(included_fields=[table.schema.get_field_index(column)])
        # Not mapped: the pages of a mapped file count as memory of the process until the system wants them back.
        self._batches = pa.ipc.open_file(pa.OSFile(str(path)), options=options)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> np.ndarray:
        first, last, _ = rows.indices(len(self))
        found = np.empty((max(last - first, 0), self.shape[1]), self.dtype)
        at, number = first, int(np.searchsorted(self._starts, first, side="right")) - 1
        while at < last:
            values = self._batches.get_batch(number).column(0).flatten().to_numpy().reshape(-1, self.shape[1])
            part = values[at - self._starts[number] : last - self._starts[number]]
            found[at - first : at - first + len(part)] = part
            at, number = at + len(part), number + 1
        return found

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)


def blocks(rows: np.ndarray | Rows, size: int = BLOCK) -> Iterator[tuple[slice, np.ndarray]]:
    """The rows (NxK), `size` at a time, and which they are."""
    for start in range(0, len(rows), size):
        part = slice(start, min(start + size, len(rows)))
        yield part, rows[part]


def unit_rows(rows: np.ndarray | Rows, kind: type = np.float32) -> np.ndarray:
    """The rows (NxK) divided by their lengths, as numbers of `kind`, in memory of their own."""
    found = np.empty(rows.shape, kind)
    for at, part in blocks(rows):
        part = part.astype(kind)
        np.divide(part, np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-12), out=found[at])
    return found


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
