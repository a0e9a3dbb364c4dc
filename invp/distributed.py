"""The process group, the device, and the few collectives that the steps use."""

import datetime
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Group:
    """This process among those of one job; `world` is 1 without torchrun."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def gather(self, tensor: Tensor) -> Tensor:
        """The rows of all processes in the order of ranks: b x ... -> (world b) x ..., without gradient."""
        if self.world == 1:
            return tensor.detach()
        parts = [torch.empty_like(tensor) for _ in range(self.world)]
        dist.all_gather(parts, tensor.detach().contiguous())
        return torch.cat(parts)

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on some process."""
        if self.world == 1:
            return flag
        value = torch.tensor([int(flag)], device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value.item())

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over processes."""
        if self.world > 1:
            dist.all_reduce(value, op=dist.ReduceOp.SUM)
            value /= self.world
        return value

    def leave(self) -> None:
        if self.world > 1:
            dist.destroy_process_group()


def join(timeout_minutes: float = 30) -> Group:
    """Joins the group that torchrun describes in the environment: nccl with a GPU a process, else gloo."""
    world = int(os.environ.get("WORLD_SIZE", 1))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())
        torch.cuda.set_device(device)
    if world == 1:
        return Group(0, 1, device)
    backend = "nccl" if device.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=datetime.timedelta(minutes=timeout_minutes))
    return Group(dist.get_rank(), world, device)
