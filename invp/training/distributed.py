"""The process group of a training, its device, and the collectives that the loop and the objectives use.

b rows a process, B in all. Nothing here needs a process group: without one, a process is alone.
"""

import datetime
import os
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """This process among those of one job; `world_size` is 1 without torchrun."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over processes."""
        if self.world_size > 1:
            dist.all_reduce(value, op=dist.ReduceOp.SUM)
            value /= self.world_size
        return value

    def leave(self) -> None:
        """Ends the membership; every process calls it."""
        if self.world_size > 1:
            dist.destroy_process_group()


def join(timeout_minutes: float = 30) -> Group:
    """Joins the group that torchrun describes in the environment: nccl with a GPU a process, else gloo."""
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    if world_size == 1:
        return Group(0, 1, device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=timeout_minutes))
    return Group(dist.get_rank(), world_size, device)


def on_any_process(*flags: bool) -> list[bool]:
    """Of each flag, whether it is set on some process; all travel together, and every process calls it."""
    if rank_and_world_size()[1] == 1:
        return list(flags)
    values = torch.tensor([int(flag) for flag in flags], device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.all_reduce(values, op=dist.ReduceOp.MAX)
    return [bool(value) for value in values.tolist()]


def said_by_first(value: Any) -> Any:
    """The first process's value, any that can be pickled; every process calls it."""
    values = [value]
    if rank_and_world_size()[1] > 1:
        dist.broadcast_object_list(values, 0)
    return values[0]


def rank_and_world_size() -> tuple[int, int]:
    """The rank of this process and the number of all; (0, 1) without a process group."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


def gather(rows: Tensor) -> Tensor:
    """The rows of all processes in the order of ranks (b x ... -> B x ...), through which the gradient flows back.

    Without a gradient it is the plain collective: detach the rows first.
    """
    return rows if rank_and_world_size()[1] == 1 else _Gather.apply(rows)


def from_first(tensor: Tensor) -> Tensor:
    """The first process's tensor, so that what each has computed on its own cannot differ in a rounding."""
    if rank_and_world_size()[1] > 1:
        tensor = tensor.contiguous()
        dist.broadcast(tensor, 0)
    return tensor


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        parts = [torch.empty_like(rows) for _ in range(rank_and_world_size()[1])]
        dist.all_gather(parts, rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, by_all: Tensor) -> Tensor:
        # Every process's loss depends on these rows: their gradients are summed. DDP then takes the mean.
        rank, world_size = rank_and_world_size()
        by_all = by_all.contiguous()
        dist.all_reduce(by_all)
        return by_all.chunk(world_size)[rank]
