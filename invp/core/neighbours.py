"""Exact search for nearest rows. N rows, B queries, D dimensions, k neighbours; a similarity is a dot product."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from invp.core.products import with_each_row

SEARCHED = 1 << 28  # similarities that a GPU holds at a time
FEW = 1 << 23  # numbers for which a job's allocator keeps memory on a CPU, so that a product need not be copied to ours
ABSENT = -1  # stands in a table of row numbers where there is no neighbour


@contextmanager
def in_fp32() -> Iterator[None]:
    """Matrix products of float32 in float32 on every device, where a GPU may otherwise take TF32, with its 10 bits."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def largest(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row of `values` (BxN): values and columns, Bxk each, in ascending order of the column.

    Exact. Where the k-th and later values are equal, the lowest columns are kept (on a GPU: any). A row with NaN keeps
    any k columns. With k > N all N come back.
    """
    k = min(k, values.shape[1])
    if k == values.shape[1]:
        return values.clone(), torch.arange(k, device=values.device).expand(len(values), k).contiguous()
    # Vectorised partition and `nonzero` of NumPy are some four times faster than torch's selection on a CPU.
    if values.device.type == "cpu":
        return _largest_on_cpu(values, k)
    columns = _columns_by_groups(values, k)
    return values.gather(1, columns), columns


def _largest_on_cpu(values: Tensor, k: int, stride: int = 16) -> tuple[Tensor, Tensor]:
    """The k largest, by NumPy: values and columns, Bxk each, ascending.

    Every 16th column gives a lower bound, and the k are chosen among the columns that reach it. Where fewer than k do, the
    exact bound is used.
    """
    rows = values.detach().numpy()
    num_columns = rows.shape[1]
    sampled = -(-num_columns // stride)
    share = k / num_columns
    rank = int(sampled * share + 4 * (sampled * share * (1 - share)) ** 0.5) + 2
    if rank > sampled // 2:
        stride, rank, sampled = 1, k, num_columns
    # Up to a tenth of true places NumPy jumps from one to the next, which from some .035 on is slower than to look at each place.
    more = max(0, int((num_columns - 10 * k) / 9) + 2) if share > 0.035 else 0
    reached = np.ones(num_columns + more, bool)

    def reaching(row: np.ndarray, bound: np.generic) -> np.ndarray:
        np.greater_equal(row, bound, out=reached[:num_columns])
        return reached.nonzero()[0][: -more or None]

    kept, columns = np.empty((len(rows), k), rows.dtype), np.empty((len(rows), k), np.int64)
    for row, its_values, its_columns in zip(rows, kept, columns, strict=True):
        sample = row[::stride].copy()
        sample.partition(sampled - rank)
        candidates = reaching(row, sample[sampled - rank])
        if len(candidates) < k:  # the sampled bound was too high
            candidates = reaching(row, np.partition(row, num_columns - k)[num_columns - k])
        if len(candidates) < k:  # the row holds NaN
            candidates = np.sort(np.argpartition(row, num_columns - k)[num_columns - k :])
        values_there = row.take(candidates)
        if len(candidates) > k:
            chosen = _chosen(values_there, k)
            candidates, values_there = candidates.take(chosen), values_there.take(chosen)
        its_values[:], its_columns[:] = values_there, candidates
    return torch.from_numpy(kept), torch.from_numpy(columns)


def _chosen(values: np.ndarray, k: int) -> np.ndarray:
    """The places of the k largest of more values, ascending; of equal values the first."""
    bound = np.partition(values, len(values) - k)[len(values) - k]
    chosen = (values >= bound).nonzero()[0]
    if len(chosen) > k:
        ties = (values == bound).nonzero()[0]
        chosen = np.setdiff1d(chosen, ties[len(ties) - (len(chosen) - k) :], assume_unique=True)
    return chosen


def _columns_by_groups(values: Tensor, k: int) -> Tensor:
    """The columns Bxk of the k largest, for a GPU: they lie in the k groups of columns with the largest maxima.

    No step waits for the host, as one with a data-dependent shape would.
    """
    num_columns = values.shape[1]
    groups = max(1, int((num_columns / k) ** 0.5))
    width = num_columns // groups
    if groups < 3:
        return values.topk(k, sorted=False).indices.sort(1).values
    heads = values[:, : groups * width].unflatten(1, (groups, width)).amax(1).topk(k, sorted=False).indices
    columns = (heads[:, None, :] + width * torch.arange(groups, device=values.device)[None, :, None]).flatten(1)
    tail = torch.arange(groups * width, num_columns, device=values.device).expand(len(values), -1)
    columns = torch.cat([columns, tail], 1)
    chosen = values.gather(1, columns).topk(k, sorted=False).indices
    return columns.gather(1, chosen).sort(1).values


def similarities(queries: Tensor, rows: Tensor, buffer: Tensor | None = None) -> Tensor:
    """The similarities BxN of queries (BxD) and rows (NxD), in the memory of the flat `buffer` if they are many and it is large enough."""
    size = len(queries) * len(rows)
    if buffer is None or buffer.numel() < size or (size <= FEW and not queries.is_cuda):
        return with_each_row(queries, rows)
    return with_each_row(queries, rows, buffer[:size].view(len(queries), len(rows)))


def search_block(queries: Tensor, num_rows: int, *, whole: bool) -> int:
    """How many of N rows the similarities of B queries are computed of at a time: all on a CPU or if `whole`, on a GPU those that fill 1 GiB."""
    return num_rows if whole or not queries.is_cuda else min(num_rows, max(1, SEARCHED // len(queries)))


def top_k(
    queries: Tensor,
    rows: Tensor,
    k: int,
    *,
    exclude: Tensor | None = None,
    block: int | None = None,
    buffer: Tensor | None = None,
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """The k rows (NxD) nearest to each query (BxD): similarities and row numbers, Bxk each, ascending in row number.

    `exclude` (B) is a row number for each query that gets similarity -inf, so that it comes back only if k is N.
    `block` rows are searched at a time. `buffer` is flat memory for B x `block` numbers. `offset` is the number of the
    first row: so the results of searches in ranges of a bank can be merged.
    """
    block = min(block or len(rows), max(len(rows), 1))
    best: tuple[Tensor, Tensor] | None = None
    for start in range(0, len(rows), block):
        block_values = similarities(queries, rows[start : start + block], buffer)
        if exclude is not None:
            local = exclude - offset - start
            inside = (local >= 0) & (local < block_values.shape[1])
            column = local.clamp(0, block_values.shape[1] - 1)[:, None]
            block_values.scatter_(1, column, block_values.gather(1, column).masked_fill(inside[:, None], -torch.inf))
        values, columns = largest(block_values, k)
        indices = columns + (start + offset) if start + offset else columns
        if best is not None:
            values, indices = merge_topk(torch.cat([best[0], values], 1), torch.cat([best[1], indices], 1), k)
        best = values, indices
    assert best is not None, "a search needs at least one row"
    return best


def merge_topk(values: Tensor, indices: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest of C candidates: similarities and row numbers, from BxC to Bxk, ascending in row number."""
    kept, columns = largest(values, k)
    indices, order = indices.gather(1, columns).sort(1)
    return kept.gather(1, order), indices


def nearest_first(values: Tensor, indices: Tensor, k: int, *, exclude: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The k most similar of C candidates, the most similar first: similarities and row numbers, from BxC to Bxk.

    `exclude` (B) is a row number for each anchor that is left out. Where fewer than k remain, -inf and ABSENT are
    returned.
    """
    width = min(k + (exclude is not None), values.shape[1])
    values, order = values.topk(width)
    indices = indices.gather(1, order)
    if exclude is not None:
        last = (indices == exclude[:, None]).to(torch.int8).sort(dim=1, stable=True).indices
        indices = indices.gather(1, last)
        values = values.gather(1, last).masked_fill(indices == exclude[:, None], -torch.inf)
    indices = indices.masked_fill(values == -torch.inf, ABSENT)[:, :k]
    missing = k - indices.shape[1]
    if missing > 0:
        indices = torch.nn.functional.pad(indices, (0, missing), value=ABSENT)
        values = torch.nn.functional.pad(values, (0, missing), value=-torch.inf)
    return values[:, :k], indices


@in_fp32()
def knn_graph(rows: Tensor, k: int, *, query_block: int = 1024, block: int = 131072) -> tuple[Tensor, Tensor]:
    """The k rows nearest to each row (NxD), itself left out: similarities and row numbers, Nxk each, nearest first.

    Exact, in blocks of queries and of rows. Where there are no k other rows, -inf and ABSENT are returned.
    """
    num_rows = len(rows)
    values = rows.new_empty(num_rows, k)
    indices = torch.empty(num_rows, k, dtype=torch.long, device=rows.device)
    buffer = rows.new_empty(min(query_block, num_rows) * min(block, num_rows))
    for start in range(0, num_rows, query_block):
        own = torch.arange(start, min(start + query_block, num_rows), device=rows.device)
        near = top_k(rows[own], rows, min(k + 1, num_rows), block=block, buffer=buffer)
        values[own], indices[own] = nearest_first(*near, k, exclude=own)
    return values, indices
