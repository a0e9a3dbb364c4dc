"""Hard positives, membership in sets, chosen rows of the bank, and draws without a random state.

B anchors, N rows, D dimensions, M nearest rows, P hard positives; Q columns in a table of row numbers.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from invp.core.neighbours import in_fp32


class RowRange(NamedTuple):
    """Which rows of a bank this rank holds, where the bank is sharded over ranks.

    `start` is the number of the first row. `sum_over_ranks` adds up a tensor over all ranks and returns the sum on
    each.
    """

    start: int
    sum_over_ranks: Callable[[Tensor], Tensor]

    def local(self, index: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
        """Row numbers within this range for the bank's row numbers `index`, and a mask of those that lie in it.

        `num_rows` is the length of the range. Row numbers outside it become 0.
        """
        local = index - self.start
        inside = (local >= 0) & (local < num_rows)
        return local.masked_fill(~inside, 0), inside


@in_fp32()
def selected_similarities(
    features: Tensor, bank: Tensor, index: Tensor, *, row_range: RowRange | None = None, block: int = 1 << 24
) -> Tensor:
    """The similarities BxQ of each feature (BxD) to the bank rows (NxD) that its row of `index` (BxQ) names.

    In float32 on a GPU too. At most about `block` numbers of gathered rows are held at a time. With `row_range`, `bank` is this rank's rows
    alone.
    """
    if row_range is not None:
        local, inside = row_range.local(index, len(bank))
        return row_range.sum_over_ranks(selected_similarities(features, bank, local, block=block).masked_fill_(~inside, 0))
    step = max(1, block // max(1, index.shape[1] * bank.shape[1]))
    blocks = [
        torch.linalg.vecdot(bank.index_select(0, part.flatten()).view(*part.shape, -1), own[:, None])
        for part, own in zip(index.split(step), features.split(step), strict=True)
    ]
    return torch.cat(blocks)


def weighted_rows(weights: Tensor, bank: Tensor, index: Tensor, *, row_range: RowRange | None = None) -> Tensor:
    """The weighted sums BxD of the bank rows (NxD) that each row of `index` (BxQ) names, with weights BxQ.

    No rows are gathered. With `row_range`, `bank` is this rank's rows alone.
    """
    if row_range is not None:
        local, inside = row_range.local(index, len(bank))
        return row_range.sum_over_ranks(weighted_rows(weights.masked_fill(~inside, 0), bank, local))
    num_lists, length = index.shape
    # Sums of 64 rows each are added up: a running sum of thousands of rows loses a digit in float32.
    offsets = torch.arange(0, length, 64, device=index.device)
    starts = (torch.arange(num_lists, device=index.device)[:, None] * length + offsets).flatten()
    flat = weights.to(bank.dtype).flatten()
    sums = F.embedding_bag(index.flatten(), bank, starts, per_sample_weights=flat, mode="sum")
    return sums.unflatten(0, (num_lists, -1)).sum(1)  # (B * offsets)xD -> BxD


def extreme_positives(similarity: Tensor, mask: Tensor, count: int, *, hardest: bool = True) -> tuple[Tensor, Tensor]:
    """The `count` positives of lowest similarity of each anchor, from similarities and mask BxQ: columns and mask, BxP.

    P is min(count, Q); the mask is False where an anchor has fewer positives. With `hardest` False, those of highest
    similarity are taken ("without hard positives"). Of equal similarities the first columns are taken, on every device.
    Source: N_h(i), the P members of N(i) with the lowest b_j.v_i.
    """
    filled = similarity.masked_fill(~mask, torch.inf if hardest else -torch.inf)
    columns = filled.sort(dim=1, descending=not hardest, stable=True).indices[:, :count]
    return columns, mask.gather(1, columns)


def membership(near: Tensor, positives: Tensor, mask: Tensor) -> Tensor:
    """A mask BxM: which row numbers of `near` (BxM, ascending in each row) are among the positives (BxQ, mask BxQ)."""
    column = torch.searchsorted(near, positives).clamp(max=near.shape[1] - 1)
    hit = mask & (near.gather(1, column) == positives)
    member = torch.zeros(near.shape[0], near.shape[1] + 1, dtype=torch.bool, device=near.device)
    # What is no hit is written to one more column, which is left out of the result.
    member.scatter_(1, column.masked_fill(~hit, near.shape[1]), True)
    return member[:, :-1]


def hashed_indices(keys: Tensor, count: int, num_rows: int, *, seed: int, epoch: int) -> Tensor:
    """`count` uniform random numbers below `num_rows` for each key (B): Bx`count` int64, by SplitMix64.

    Each is a function of seed, epoch, its key and its column alone, so that neither the device, nor the batch, nor the
    number of processes changes a draw.
    """
    column = torch.arange(count, device=keys.device)
    state = _mix(_mix(_mix(keys.new_full((1,), seed)) + epoch) + keys[:, None])
    return _mix(state + column).bitwise_and(0x7FFFFFFFFFFFFFFF) % num_rows


def hashed_uniform(keys: Tensor, count: int, *numbers: int) -> Tensor:
    """`count` uniform numbers in [0, 1) for each key (B): Bx`count` float64, each a function of numbers, its key and its column alone."""
    state = keys.new_zeros(1)
    for number in numbers:
        state = _mix(state + number)
    state = _mix(state + keys[:, None])
    return _shift(_mix(state + torch.arange(count, device=keys.device)), 11).double() * 2.0**-53


def _mix(x: Tensor) -> Tensor:
    """One step of SplitMix64 on int64 tensors, in which overflow wraps around."""
    x = x + -0x61C8864680B583EB
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """int64 shifted to the right by `bits`, zeros coming in from the left."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mixed_seed(*numbers: int) -> int:
    """A seed below 2^62 made of integers; integers that differ by one give unrelated seeds."""
    state = torch.zeros(1, dtype=torch.int64)
    for number in numbers:
        state = _mix(state + number)
    return int(state.item()) & 0x3FFFFFFFFFFFFFFF
