"""The momentum encoder, and batch normalisation over groups of a shuffled batch. B batch, C channels, G groups."""

import copy
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.plumbing.errors import UserError


class MomentumCopy(nn.Module):
    """A momentum encoder: a copy of encoder and head without gradient, theta_k <- m theta_k + (1 - m) theta_q.

    In training, batch statistics are taken over groups of `group` images (0: over all); the caller shuffles the images.
    Source: He et al., CVPR 2020, equation 2 and "Shuffling BN".
    """

    def __init__(self, encoder: nn.Module, head: nn.Module, momentum: float, group: int = 0) -> None:
        super().__init__()
        self.momentum = momentum
        self.encoder, self.head = copy.deepcopy(encoder), copy.deepcopy(head)
        if group:
            _group_batch_norms(self, group)
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """The embeddings of the images (BxCxHxW): BxD, unit vectors."""
        return F.normalize(self.head(self.encoder(images)), dim=1)

    @torch.no_grad()
    def follow(self, encoder: nn.Module, head: nn.Module, momentum: float | None = None) -> None:
        """Moves the copy's parameters towards those of encoder and head, with another momentum than its own if one is given.

        Running statistics stay the copy's own.
        """
        sources = [*encoder.parameters(), *head.parameters()]
        move_towards([*self.parameters()], sources, self.momentum if momentum is None else momentum)


@torch.no_grad()
def move_towards(own: list[Tensor], others: list[Tensor], momentum: float) -> None:
    """own <- m own + (1 - m) other, of each of the parameters."""
    torch._foreach_lerp_(own, others, 1 - momentum)


def rising_momentum(start: float, progress: float) -> float:
    """m rising from `start` to 1 as half a cosine while `progress` goes from 0 to 1 (Grill et al., NeurIPS 2020, section 3.2)."""
    return 1 - (1 - start) * (1 + math.cos(math.pi * progress)) / 2


class GroupedBatchNorm(nn.Module):
    """Batch normalisation over G = B / `group` groups of `group` images: image i is in group i mod G.

    A group lies in one process, so this is no subclass of torch's layer: it must not be converted to SyncBatchNorm. Its
    state has the names of `nn.BatchNorm2d`'s. The maps are reshaped and not copied, as in MoCo's CIFAR demonstration.
    """

    def __init__(self, norm: nn.BatchNorm2d, group: int) -> None:
        super().__init__()
        self.group, self.eps, self.momentum = group, norm.eps, norm.momentum
        self.weight, self.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))

    def forward(self, maps: Tensor) -> Tensor:
        if not self.training:
            mean, variance = self.running_mean, self.running_var
            return F.batch_norm(maps, mean, variance, self.weight, self.bias, False, self.momentum, self.eps)
        if len(maps) % self.group:
            raise UserError(f"objective: norm_group must divide the {len(maps)} images of a process, and is {self.group}")
        groups = len(maps) // self.group
        mean, variance = self.running_mean.repeat(groups), self.running_var.repeat(groups)
        result = F.batch_norm(
            maps.reshape(self.group, groups * maps.shape[1], *maps.shape[2:]),
            mean, variance, self.weight.repeat(groups), self.bias.repeat(groups), True, self.momentum, self.eps,
        )  # fmt: skip
        self.running_mean.copy_(mean.view(groups, -1).mean(0))
        self.running_var.copy_(variance.view(groups, -1).mean(0))
        self.num_batches_tracked += 1
        return result.view(maps.shape)


def _group_batch_norms(module: nn.Module, group: int) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, GroupedBatchNorm(child, group))
        else:
            _group_batch_norms(child, group)
