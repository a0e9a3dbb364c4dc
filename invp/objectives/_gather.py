"""Rows of all processes inside an objective; without a process group, its own. b rows a process, B in all."""

import torch
import torch.distributed as dist
from torch import Tensor


def place() -> tuple[int, int]:
    """The number of this process and that of all processes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes in the order of ranks (b x ... -> B x ...), through which the gradient flows back."""
    return rows if place()[1] == 1 else _Gather.apply(rows)


def from_first(tensor: Tensor) -> Tensor:
    """The first process's tensor, so that what each has computed on its own cannot differ in a rounding."""
    if place()[1] > 1:
        tensor = tensor.contiguous()
        dist.broadcast(tensor, 0)
    return tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:  # type: ignore[override]
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(place()[1])]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, by_all: Tensor) -> Tensor:  # type: ignore[override]
        # Every process's loss depends on these rows: their gradients are summed. DDP then takes the mean.
        rank, world = place()
        by_all = by_all.contiguous()
        dist.all_reduce(by_all)
        return by_all.chunk(world)[rank]
