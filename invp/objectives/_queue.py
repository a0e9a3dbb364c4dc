"""What objectives with a momentum encoder and a queue of its keys share.

B batch over all ranks, b that of one, D dimensions, K keys in the queue, F features.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.selection import hashed_indices
from invp.models.heads import embedding_width
from invp.objectives._momentum import MomentumCopy
from invp.training.distributed import gather, rank_and_world_size

SHUFFLE_STREAM = 1 << 32  # keeps the draws of the shuffle apart from others of the same seed


class QueueOfKeys(nn.Module):
    """The momentum encoder `key`, and its `queue` (KxD) with the `pointer` to the oldest key.

    The options have `num_keys`, `momentum` and `norm_group`. Memory has the rows `key`, which `end_step` writes.
    """

    views = 2
    queue: Tensor
    pointer: Tensor

    def __init__(self, config: Any, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head, self.seed = config, encoder, head, seed
        self.key = MomentumCopy(encoder, head, config.momentum, config.norm_group)
        keys = torch.randn(config.num_keys, embedding_width(encoder, head), generator=torch.Generator().manual_seed(seed))
        self.register_buffer("queue", F.normalize(keys, dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing: the only memory is the queue, which `end_step` updates."""

    @torch.no_grad()
    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Replaces the oldest keys of the queue by the batch's, and moves the momentum encoder."""
        keys = memory["key"][-len(self.queue) :]
        self.queue[self.oldest(len(keys))] = keys.to(self.queue.dtype)
        self.pointer.copy_((self.pointer + len(keys)) % len(self.queue))
        self.key.follow(self.encoder, self.head)

    def oldest(self, count: int) -> Tensor:
        """The rows of the `count` oldest keys, the oldest first."""
        return (self.pointer + torch.arange(count, device=self.pointer.device)) % len(self.queue)

    @torch.no_grad()
    def keys(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """The keys (bxD) of the images, from a shuffled batch, so that batch statistics do not give a pair away."""
        if not self.config.norm_group:
            return self.key(images)
        rank, world_size = rank_and_world_size()
        draws = hashed_indices(gather(index), 1, 1 << 62, seed=self.seed + SHUFFLE_STREAM, epoch=epoch)[:, 0]
        # A rank takes every world_size-th image of the shuffled batch: so the groups are the same for every number of ranks.
        order = draws.argsort(stable=True).view(-1, world_size).T.flatten()
        own = slice(rank * len(images), (rank + 1) * len(images))
        keys = gather(self.key(gather(images)[order[own]]))
        return keys[order.argsort()[own]]
