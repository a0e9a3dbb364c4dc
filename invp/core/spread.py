"""How far rows lie from their nearest others, as a loss. b rows, B rows that they are compared with, D dimensions."""

import torch
from torch import Tensor

from invp.core.neighbours import in_fp32


def koleo(rows: Tensor, others: Tensor, own: Tensor, epsilon: float = 1e-8) -> Tensor:
    """KoLeo: - mean_i log(|x_i - x_n(i)| + epsilon), x_n(i) the nearest of the others (BxD) but the row itself, number `own` (b) among them.

    Rows are unit vectors (bxD); the nearest is that of the highest similarity. Sources: Sablayrolles et al., ICLR 2019; Oquab et al., 2023
    (DINOv2).
    """
    with torch.no_grad(), in_fp32():
        nearest = (rows @ others.T).scatter(1, own[:, None], -torch.inf).argmax(1)
    return -((rows - others[nearest] + epsilon).norm(dim=1) + epsilon).log().mean()
