"""Columns of fixed-size lists in Arrow tables, as arrays. N rows, K numbers each."""

import numpy as np
import pyarrow as pa


def fixed_size_list(values: np.ndarray) -> pa.FixedSizeListArray:
    """NxK numbers as N lists of K."""
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).ravel()), values.shape[1])


def matrix(table: pa.Table, column: str) -> np.ndarray:
    """A column of fixed-size lists as NxK numbers."""
    values = table[column].combine_chunks()
    return values.flatten().to_numpy().reshape(len(table), -1)
