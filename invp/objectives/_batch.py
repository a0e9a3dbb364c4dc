"""What objectives share that compare images of one batch over all processes. B batch over all ranks, b that of one, D dimensions."""

import torch
import torch.nn.functional as F
from torch import Tensor

from invp.training.distributed import gather, rank_and_world_size


def own_rows(count: int, device: torch.device) -> Tensor:
    """Where this rank's `count` rows lie among the rows of all ranks."""
    return torch.arange(count, device=device) + rank_and_world_size()[0] * count


def find_own(anchors: Tensor, rows: Tensor, temperature: float) -> Tensor:
    """The mean over this rank's anchors (bxD) of the cross-entropy by which each finds its own of the rows (bxD) among those of all ranks."""
    return F.cross_entropy(anchors @ gather(rows).T / temperature, own_rows(len(anchors), anchors.device))
