"""What the tests of tasks on images share: an encoder that is one matrix, in 64 bits, and what it was given."""

import torch
from torch import Tensor, nn

from invp.models.encoders import ImageEncoder

MEAN, STD = (0.5, 0.25, 0.75), (0.25, 0.5, 0.125)  # without rounding


class Matrix(ImageEncoder):
    """Features are a matrix times the pixels of an image of 3 x `side` x `side`. `seen` has the images of each call."""

    def __init__(self, side: int, num_features: int) -> None:
        super().__init__(MEAN, STD)
        self.num_features, self.seen = num_features, []
        start = torch.randn(num_features, 3 * side * side, generator=torch.Generator().manual_seed(5))
        self.weight = nn.Parameter(start / (3 * side * side) ** 0.5)
        self.double()

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(images)
        return (images.flatten(1) @ self.weight.T).tanh()


def pictures(count: int, size: int) -> Tensor:
    """Normalised images in 64 bits, Bx3x`size`x`size`, of pixels that differ from each other."""
    pixels = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(count), dtype=torch.float64)
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (MEAN, STD))
    return (pixels - mean) / std


def layers(classifier: nn.Sequential, row: Tensor) -> Tensor:
    """Logits of one row, layer by layer."""
    linear = [layer for layer in classifier if isinstance(layer, nn.Linear)]
    for number, layer in enumerate(linear):
        row = torch.stack([sum(w * x for w, x in zip(weights, row, strict=True)) for weights in layer.weight]) + layer.bias
        row = row if number == len(linear) - 1 else row.clamp(min=0)
    return row


def assert_same_loss_and_gradients(objective: nn.Module, ours: Tensor, slow: Tensor) -> None:
    """Value and the gradient of every parameter, in 64 bits."""
    torch.testing.assert_close(ours, slow, rtol=1e-10, atol=1e-12)
    parameters = list(objective.parameters())
    pairs = zip(torch.autograd.grad(ours, parameters), torch.autograd.grad(slow, parameters), strict=True)
    for one, other in pairs:
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)
        assert one.abs().max() > 0
