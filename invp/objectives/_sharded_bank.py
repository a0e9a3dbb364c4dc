"""A memory bank that is replicated on every rank, or sharded by rows over the ranks.

A sharded bank has about N / world_size rows on each rank. Every rank scores the anchors of the whole batch against its
rows, and the results are merged. N rows, b anchors of one rank, B anchors of all ranks, D dimensions, k rows searched
for.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.bank import update_rows
from invp.core.neighbours import in_fp32, knn_graph, merge_topk, nearest_first, top_k
from invp.core.selection import RowRange
from invp.training.distributed import gather, rank_and_world_size


class BankRows:
    """The rows `start` to `stop` of a bank of N that this rank holds, and what ranks do with the bank together.

    An objective with a `bank` has one. `kind` is its option: replicated or sharded. Where this rank holds all rows,
    `row_range` is None, and every method works without communication.
    """

    def __init__(self, num_samples: int, kind: str) -> None:
        rank, world_size = rank_and_world_size() if kind == "sharded" else (0, 1)
        self.num_samples = num_samples
        self.bounds = [number * num_samples // world_size for number in range(world_size + 1)]  # rank r: r to r + 1
        self.start, self.stop = self.bounds[rank], self.bounds[rank + 1]
        self.row_range = RowRange(self.start, _sum_over_ranks) if world_size > 1 else None

    def shard(self, objective: nn.Module) -> None:
        """Replaces the objective's buffer `bank` by this rank's rows; its state dictionary keeps all rows.

        So a checkpoint is the same for every number of ranks. `state_dict` becomes a collective call: every rank must
        make it. Does nothing where the bank is replicated.
        """
        if self.row_range is None:
            return
        objective.bank = objective.bank[self.start : self.stop].clone()

        def collect(module, state, prefix, metadata):
            state[f"{prefix}bank"] = self.all_rows(module.bank.detach())

        def select(module, state, prefix, *rest):
            if f"{prefix}bank" in state:
                state[f"{prefix}bank"] = state[f"{prefix}bank"][self.start : self.stop]

        objective.register_state_dict_post_hook(collect)
        objective.register_load_state_dict_pre_hook(select)

    def all_rows(self, rows: Tensor) -> Tensor:
        """All rows of the bank, NxD on the CPU of every rank, from each rank's `rows`."""
        result = torch.empty(self.num_samples, rows.shape[1], dtype=rows.dtype)
        for rank in range(len(self.bounds) - 1):
            for start in range(self.bounds[rank], self.bounds[rank + 1], 131072):
                stop = min(start + 131072, self.bounds[rank + 1])
                result[start:stop] = self._broadcast(rows, rank, start, stop).cpu()
        return result

    def top_k(self, queries: Tensor, rows: Tensor, k: int, *, block: int | None = None, buffer: Tensor | None = None):
        """`invp.core.neighbours.top_k` over the rows of all ranks; the queries (BxD) must be the same on each."""
        if self.row_range is None:
            return top_k(queries, rows, k, block=block, buffer=buffer)
        values, index = top_k(queries, rows, min(k, len(rows)), block=block, buffer=buffer, offset=self.start)
        missing = k - values.shape[1]
        values = F.pad(values, (0, missing), value=-torch.inf)
        index = F.pad(index, (0, missing), value=self.num_samples)
        return merge_topk(_side_by_side(values), _side_by_side(index), k)

    @in_fp32()
    def knn_graph(self, rows: Tensor, k: int) -> Tensor:
        """The row numbers of the k nearest others of all N rows: Nxk, nearest first, the same on every rank."""
        if self.row_range is None:
            return knn_graph(rows, k)[1]
        blocks = []
        for rank in range(len(self.bounds) - 1):
            for start in range(self.bounds[rank], self.bounds[rank + 1], 1024):
                stop = min(start + 1024, self.bounds[rank + 1])
                near = self.top_k(self._broadcast(rows, rank, start, stop), rows, min(k + 1, self.num_samples))
                blocks.append(nearest_first(*near, k, exclude=torch.arange(start, stop, device=rows.device))[1])
        return torch.cat(blocks)

    def all_anchors(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The anchors that this rank scores: those of all ranks (B x ...) if the bank is sharded, else its own (b x ...)."""
        return tensors if self.row_range is None else tuple(gather(tensor) for tensor in tensors)

    def own_anchors(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """This rank's rows (b x ...) of what was computed for `all_anchors` (B x ...)."""
        rank, world_size = rank_and_world_size()
        return tensors if self.row_range is None else tuple(tensor.chunk(world_size)[rank] for tensor in tensors)

    def update(self, bank: Tensor, index: Tensor, features: Tensor, momentum: float) -> Tensor:
        """`invp.core.bank.update_rows` for those of the images `index` (B) whose rows this rank holds.

        Returns the row numbers of these in `bank`, this rank's rows.
        """
        if self.row_range is not None:
            held = ((index >= self.start) & (index < self.stop)).nonzero()[:, 0]
            index, features = index[held] - self.start, features[held]
        update_rows(bank, index, features, momentum)
        return index

    def _broadcast(self, rows: Tensor, rank: int, start: int, stop: int) -> Tensor:
        """The rows `start` to `stop` of the bank, sent to every rank by the one that holds them."""
        if rank == rank_and_world_size()[0]:
            block = rows[start - self.start : stop - self.start].contiguous()
        else:
            block = rows.new_empty(stop - start, rows.shape[1])
        if self.row_range is not None:
            dist.broadcast(block, rank)
        return block


def _sum_over_ranks(tensor: Tensor) -> Tensor:
    dist.all_reduce(tensor)
    return tensor


def _side_by_side(values: Tensor) -> Tensor:
    """The tables of all ranks (Bxk each) side by side: B x (world_size k)."""
    tables = [torch.empty_like(values) for _ in range(rank_and_world_size()[1])]
    dist.all_gather(tables, values.contiguous())
    return torch.cat(tables, 1)
