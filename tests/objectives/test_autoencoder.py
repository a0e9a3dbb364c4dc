"""The autoencoder: its loss, and that a linear one finds what principal components find."""

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import nn

from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.objectives.autoencoder import Config, Objective

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
INDEX = torch.arange(40)


def linear(size: int = 4, dimensions: int = 5, **options) -> Objective:
    """Of raw pixels, a linear code and a linear decoder, in 64 bits."""
    torch.manual_seed(0)
    encoder = build_encoder({"name": "pixels", "zero_init_residual": False}, size, mean=MEAN, std=STD)
    head = build_head({"kind": "linear", "dimensions": dimensions}, encoder.num_features)
    return Objective(Config("linear", **options), encoder, head, len(INDEX), seed=3).double()


def pixels(size: int = 4) -> torch.Tensor:
    """Forty images in [0, 1] that differ in five ways most of all, and a little in seven others."""
    generator = torch.Generator().manual_seed(1)
    factors = torch.rand(len(INDEX), 12, generator=generator, dtype=torch.double)
    ways = torch.randn(12, 3 * size * size, generator=generator, dtype=torch.double)
    mixed = (factors * torch.tensor([1.0] * 5 + [0.1] * 7)) @ ways
    return ((mixed - mixed.min()) / (mixed.max() - mixed.min())).view(-1, 3, size, size)


def normalised(images: torch.Tensor) -> torch.Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def test_value_and_gradient_are_those_of_plain_loops():
    objective, images = linear(sparsity=0.3), pixels()[:3]
    output = objective([normalised(images)], INDEX[:3], 1)
    codes = objective.head(normalised(images).flatten(1))
    made = objective.decoder.linear(codes).view(3, 3, 4, 4)
    error, size = 0.0, 0.0
    for b in range(3):
        for c in range(3):
            for row in range(4):
                for column in range(4):
                    error = error + (made[b, c, row, column] - images[b, c, row, column]) ** 2 / (3 * 48)
        for d in range(5):
            size = size + codes[b, d].abs() / 15
    expected = error / 2 + 0.3 * size
    torch.testing.assert_close(output["loss"], expected, rtol=1e-6, atol=0)
    assert output["metrics"]["pretext_error"].item() == pytest.approx(error.item(), rel=1e-6)
    assert output["metrics"]["code_size"].item() == pytest.approx(size.item())
    parameters = list(objective.parameters())
    for ours, theirs in zip(
        torch.autograd.grad(output["loss"], parameters), torch.autograd.grad(expected, parameters), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-9)


def components(images: torch.Tensor, dimensions: int) -> tuple[PCA, float]:
    """sklearn's principal components of the images' pixels, and the mean squared error of what they give back."""
    rows = images.flatten(1).numpy()
    found = PCA(dimensions, svd_solver="full").fit(rows)
    return found, float(np.square(found.inverse_transform(found.transform(rows)) - rows).mean())


def test_with_the_principal_components_for_weights_the_error_is_theirs_and_no_step_lowers_it():
    objective, images = linear(), pixels()
    found, error = components(images, 5)
    scale = torch.tensor(STD).double().view(3, 1, 1).expand(3, 4, 4).flatten()
    shift = torch.tensor(MEAN).double().view(3, 1, 1).expand(3, 4, 4).flatten()
    axes, mean = torch.from_numpy(found.components_), torch.from_numpy(found.mean_)
    with torch.no_grad():
        objective.head[0].weight.copy_(axes * scale)  # of normalised pixels
        objective.head[0].bias.copy_(axes @ (shift - mean))
        objective.decoder.linear.weight.copy_(axes.T)
        objective.decoder.linear.bias.copy_(mean)
    output = objective([normalised(images)], INDEX, 1)
    assert output["metrics"]["pretext_error"].item() == pytest.approx(error, rel=1e-5)
    assert all(gradient.abs().max() < 1e-6 for gradient in torch.autograd.grad(output["loss"], list(objective.parameters())))


def test_a_linear_autoencoder_learns_the_principal_components():
    objective, images = linear(2, 3), pixels(2)
    optimizer = torch.optim.LBFGS(
        objective.parameters(),
        max_iter=250,
        history_size=50,
        line_search_fn="strong_wolfe",
        tolerance_change=0,
        tolerance_grad=1e-9,
    )

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = 1e3 * objective([normalised(images)], INDEX, 1)["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)
    learned = objective([normalised(images)], INDEX, 1)["metrics"]["pretext_error"].item()
    (_, error), (_, fewer) = components(images, 3), components(images, 2)
    assert error * (1 - 1e-6) <= learned < 1.005 * error
    assert fewer > 1.5 * error  # which the bound above tells apart


def test_a_perfect_reconstruction_has_no_error_and_is_the_picture():
    objective, images = linear(), pixels()[:4]

    class Known(nn.Module):
        def forward(self, code):
            return images

    objective.decoder = Known()
    assert objective([normalised(images)], INDEX[:4], 1)["metrics"]["pretext_error"].item() < 1e-12
    shown = objective.pictures(normalised(images), INDEX[:4])
    assert list(shown) == ["input", "reconstruction"]
    for picture in shown.values():
        torch.testing.assert_close(picture, images, rtol=0, atol=1e-6)


def test_pictures_are_pixels_though_the_decoder_knows_no_bounds():
    objective, images = linear(), pixels()[:4]
    with torch.no_grad():
        objective.decoder.linear.bias += 5
    shown = objective.pictures(normalised(images), INDEX[:4])["reconstruction"]
    assert shown.shape == (4, 3, 4, 4) and shown.min() >= 0 and shown.max() == 1 and not shown.requires_grad
