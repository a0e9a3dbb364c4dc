"""A memory bank cut by rows over processes: each holds about N / world_size rows, searches them, and results are merged.

Every process works on the whole batch: B anchors, N rows, D dimensions, k rows searched for.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.bank import update_rows
from invp.core.neighbours import knn_graph, merge_topk, nearest_first, top_k
from invp.core.selection import Part
from invp.training.distributed import gather, rank_and_world_size


class BankRows:
    """This process's rows, `start` to `stop`, of a bank of N: all of them if it is replicated; `part` is None then."""

    def __init__(self, num_samples: int, kind: str) -> None:
        rank, world_size = rank_and_world_size() if kind == "sharded" else (0, 1)
        self.num_samples = num_samples
        self.bounds = [number * num_samples // world_size for number in range(world_size + 1)]
        self.start, self.stop = self.bounds[rank], self.bounds[rank + 1]
        self.part = Part(self.start, _total) if world_size > 1 else None

    def cut(self, objective: nn.Module) -> None:
        """Leaves this process's rows in the objective's buffer `bank`; state dictionaries keep holding all of them.

        So a checkpoint does not tell how many processes wrote it. `state_dict` then is a collective call.
        """
        if self.part is None:
            return
        objective.bank = objective.bank[self.start : self.stop].clone()

        def collect(module, state, prefix, metadata):
            state[f"{prefix}bank"] = self.whole(module.bank.detach())

        def select(module, state, prefix, *rest):
            if f"{prefix}bank" in state:
                state[f"{prefix}bank"] = state[f"{prefix}bank"][self.start : self.stop]

        objective.register_state_dict_post_hook(collect)
        objective.register_load_state_dict_pre_hook(select)

    def whole(self, rows: Tensor) -> Tensor:
        """All rows of the bank, NxD on the CPU, in every process."""
        result = torch.empty(self.num_samples, rows.shape[1], dtype=rows.dtype)
        for owner in range(len(self.bounds) - 1):
            for start in range(self.bounds[owner], self.bounds[owner + 1], 131072):
                stop = min(start + 131072, self.bounds[owner + 1])
                result[start:stop] = self._sent(rows, owner, start, stop).cpu()
        return result

    def top_k(self, queries: Tensor, rows: Tensor, k: int, *, block: int | None = None, buffer: Tensor | None = None):
        """`invp.core.neighbours.top_k` over the rows of all processes; the queries (BxD) are the same in each."""
        if self.part is None:
            return top_k(queries, rows, k, block=block, buffer=buffer)
        values, index = top_k(queries, rows, min(k, len(rows)), block=block, buffer=buffer, offset=self.start)
        missing = k - values.shape[1]
        values = F.pad(values, (0, missing), value=-torch.inf)
        index = F.pad(index, (0, missing), value=self.num_samples)
        return merge_topk(_columns(values), _columns(index), k)

    def knn_graph(self, rows: Tensor, k: int) -> Tensor:
        """The numbers of the k nearest others of all N rows, Nxk, in every process."""
        if self.part is None:
            return knn_graph(rows, k)[1]
        parts = []
        for owner in range(len(self.bounds) - 1):
            for start in range(self.bounds[owner], self.bounds[owner + 1], 1024):
                stop = min(start + 1024, self.bounds[owner + 1])
                found = self.top_k(self._sent(rows, owner, start, stop), rows, min(k + 1, self.num_samples))
                parts.append(nearest_first(*found, k, exclude=torch.arange(start, stop, device=rows.device))[1])
        return torch.cat(parts)

    def all_anchors(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The batch's rows of tensors (b x ...): of all processes if the bank is sharded, since each scores them all."""
        return tensors if self.part is None else tuple(gather(tensor) for tensor in tensors)

    def own_anchors(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Of what was computed for `all_anchors` (B x ...), the rows of this process."""
        rank, world_size = rank_and_world_size()
        return tensors if self.part is None else tuple(tensor.chunk(world_size)[rank] for tensor in tensors)

    def update(self, bank: Tensor, index: Tensor, features: Tensor, momentum: float) -> Tensor:
        """`invp.core.bank.update_rows` for those of the samples `index` (B) whose rows are here: their places in `bank`."""
        if self.part is not None:
            here = ((index >= self.start) & (index < self.stop)).nonzero()[:, 0]
            index, features = index[here] - self.start, features[here]
        update_rows(bank, index, features, momentum)
        return index

    def _sent(self, rows: Tensor, owner: int, start: int, stop: int) -> Tensor:
        """The rows `start` to `stop` of the bank, from the process that holds them."""
        if owner == rank_and_world_size()[0]:
            block = rows[start - self.start : stop - self.start].contiguous()
        else:
            block = rows.new_empty(stop - start, rows.shape[1])
        if self.part is not None:
            dist.broadcast(block, owner)
        return block


def _total(tensor: Tensor) -> Tensor:
    dist.all_reduce(tensor)
    return tensor


def _columns(values: Tensor) -> Tensor:
    """The tables of all processes (Bxk each) side by side."""
    parts = [torch.empty_like(values) for _ in range(rank_and_world_size()[1])]
    dist.all_gather(parts, values.contiguous())
    return torch.cat(parts, 1)
