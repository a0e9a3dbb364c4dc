"""Hard positives, membership, and rows chosen from the bank. B anchors, N rows, M nearest rows, Q positives."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Part(NamedTuple):
    """A bank of which these rows are a part: the number of the first, and the sum of a tensor over all parts."""

    start: int
    total: Callable[[Tensor], Tensor]

    def local(self, index: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
        """Where the rows `index` lie in this part (0 for those elsewhere), and which of them lie here."""
        place = index - self.start
        inside = (place >= 0) & (place < num_rows)
        return place.masked_fill(~inside, 0), inside


def selected_similarities(
    features: Tensor, bank: Tensor, index: Tensor, *, part: Part | None = None, block: int = 1 << 24
) -> Tensor:
    """The dot products of each feature (BxD) with the bank rows (NxD) of its list `index` (BxQ): BxQ.

    At most about `block` numbers of gathered rows are held at a time. With `part`, `bank` holds some of the rows alone.
    """
    if part is not None:
        place, inside = part.local(index, len(bank))
        return part.total(selected_similarities(features, bank, place, block=block).masked_fill_(~inside, 0))
    step = max(1, block // max(1, index.shape[1] * bank.shape[1]))
    parts = [
        torch.bmm(bank[index[start : start + step]], features[start : start + step, :, None]).squeeze(2)
        for start in range(0, len(index), step)
    ]
    return torch.cat(parts)


def weighted_rows(weights: Tensor, bank: Tensor, index: Tensor, *, part: Part | None = None) -> Tensor:
    """The sum of the bank rows (NxD) of each list `index` (BxQ) under its weights (BxQ): BxD, nothing gathered.

    With `part`, `bank` holds some of the rows alone.
    """
    if part is not None:
        place, inside = part.local(index, len(bank))
        return part.total(weighted_rows(weights.masked_fill(~inside, 0), bank, place))
    num_lists, length = index.shape
    # In pieces of 64, whose sums are added: a running sum of thousands of rows loses a digit in float32.
    pieces = torch.arange(0, length, 64, device=index.device)
    starts = (torch.arange(num_lists, device=index.device)[:, None] * length + pieces).flatten()
    flat = weights.to(bank.dtype).flatten()
    sums = F.embedding_bag(index.flatten(), bank, starts, per_sample_weights=flat, mode="sum")
    return sums.unflatten(0, (num_lists, -1)).sum(1)  # (B * pieces)xD -> BxD


def extreme_positives(similarity: Tensor, mask: Tensor, count: int, *, hardest: bool = True) -> tuple[Tensor, Tensor]:
    """The `count` positives of lowest similarity of each anchor (BxQ): columns and mask, BxP, P = min(count, Q).

    With `hardest` False those of highest similarity ("without hard positives").
    Source: N_h(i), the P members of N(i) with the lowest b_j.v_i.
    """
    filled = similarity.masked_fill(~mask, torch.inf if hardest else -torch.inf)
    # A stable sort, so that of equal similarities the first are taken, on every device.
    columns = filled.sort(dim=1, descending=not hardest, stable=True).indices[:, :count]
    return columns, mask.gather(1, columns)


def membership(near: Tensor, positives: Tensor, mask: Tensor) -> Tensor:
    """Which of the M rows of `near` (BxM, each row ascending) are among the positives (BxQ, mask BxQ): BxM bool."""
    place = torch.searchsorted(near, positives).clamp(max=near.shape[1] - 1)
    hit = mask & (near.gather(1, place) == positives)
    member = torch.zeros(near.shape[0], near.shape[1] + 1, dtype=torch.bool, device=near.device)
    # Places that are no member are written to a column beyond the last one, which is cut off.
    member.scatter_(1, place.masked_fill(~hit, near.shape[1]), True)
    return member[:, :-1]


def hashed_indices(keys: Tensor, count: int, num_rows: int, *, seed: int, epoch: int) -> Tensor:
    """`count` row numbers below `num_rows` for each key (B), uniform, a function of (seed, epoch, key, place).

    So neither the device, the batch nor the number of processes changes a draw. Mixing: SplitMix64.
    """
    place = torch.arange(count, device=keys.device)
    state = _mix(_mix(_mix(keys.new_tensor([seed])) + epoch) + keys[:, None])
    return _mix(state + place).bitwise_and(0x7FFFFFFFFFFFFFFF) % num_rows


def _mix(x: Tensor) -> Tensor:
    """The output function of SplitMix64 on int64, whose products wrap around."""
    x = x + -0x61C8864680B583EB
    x = (x ^ _shift(x, 30)) * -0x40A7B892E31B1A47
    x = (x ^ _shift(x, 27)) * -0x6B2FB644ECCEEE15
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    """A logical shift to the right of int64."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def mixed_seed(*numbers: int) -> int:
    """One seed of 62 bits from several numbers, so that neighbouring ones give unrelated streams."""
    state = torch.zeros(1, dtype=torch.int64)
    for number in numbers:
        state = _mix(state + number)
    return int(state.item()) & 0x3FFFFFFFFFFFFFFF
