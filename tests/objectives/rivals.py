"""What the tests of the rivals share: an encoder whose features are its parameters."""

import torch
from torch import nn


class Given(nn.Module):
    """Feature i of `num` is row i of a parameter, so that the gradient by each feature can be read.

    An "image" is the number of a row, in any shape that has one number a row.
    """

    def __init__(self, num: int, dimensions: int, seed: int = 1) -> None:
        super().__init__()
        self.num_features = dimensions
        self.rows = nn.Parameter(torch.randn(num, dimensions, generator=torch.Generator().manual_seed(seed)))

    def forward(self, x):
        return self.rows[x.flatten().long()]


def images(*numbers: int) -> torch.Tensor:
    """The "images" of `Given` with these numbers."""
    return torch.tensor(numbers)[:, None]
