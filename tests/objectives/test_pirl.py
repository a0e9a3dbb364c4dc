"""PIRL: its loss over image and jigsaw, the jigsaw itself, and where gradients flow."""

import pytest
import torch
from rivals import Given, images
from torch import nn

from invp.core.patches import grid_patches
from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.objectives import instance_discrimination
from invp.objectives.pirl import Config, Objective

N, D = 24, 4


def network(**options) -> Objective:
    torch.manual_seed(0)
    encoder = build_encoder(
        {"name": "resnet_small", "stem": "auto", "width": 8, "blocks": 1, "norm": "group", "zero_init_residual": False}, 12
    )
    head = build_head({"kind": "linear", "dimensions": D}, 32)
    config = Config(**({"loss": "infonce", "num_negatives": 7, "temperature": 0.3} | options))
    return Objective(config, encoder, head, N, seed=3)


def test_the_patches_features_are_put_in_a_row_in_the_order_of_the_draws():
    objective, pictures = network(), torch.randn(2, 3, 12, 12)
    draws = torch.randint(0, 1 << 40, (2, 27), generator=torch.Generator().manual_seed(0))
    features = objective.patch_head(objective.encoder(grid_patches(pictures, draws[:, 9:].reshape(-1, 2), 0.75)))
    for b in range(2):
        order = sorted(range(9), key=lambda j: draws[b, j].item())
        row = torch.cat([features[9 * b + j] for j in order])
        torch.testing.assert_close(objective._jigsaw(pictures, draws)[b], objective.order_head(row))


@pytest.mark.parametrize("loss", ["infonce", "nce", "full"])
def test_value_and_gradient_are_the_weighted_mean_of_two_instance_losses(loss):
    """Instance discrimination, tested against loops, is given the two kinds of feature; Z is the mean of both."""
    objective = network(loss=loss, weight=0.3)
    pictures, index, seen = torch.randn(4, 3, 12, 12), torch.tensor([3, 8, 0, 11]), []
    jigsaw = objective._jigsaw
    objective._jigsaw = lambda *arguments: seen.append(arguments) or jigsaw(*arguments)
    output = objective([pictures], index, 1)
    image, puzzle = objective.head(objective.encoder(pictures)), jigsaw(*seen[0])
    terms, partitions = [], []
    for rows in (image, puzzle):
        given = Given(N, D)
        with torch.no_grad():
            given.rows[index] = rows
        options = instance_discrimination.Config(loss, num_negatives=7, temperature=0.3)
        plain = instance_discrimination.Objective(options, given, nn.Identity(), N, seed=3)
        one = plain([images(*index.tolist())], index, 1)
        terms.append((one["loss"], torch.autograd.grad(one["loss"], given.rows)[0][index]))
        partitions.append(one["memory"].get("log_partition"))
    torch.testing.assert_close(output["loss"], 0.7 * terms[0][0] + 0.3 * terms[1][0])
    expected = 0.7 * (image * terms[0][1]).sum() + 0.3 * (puzzle * terms[1][1]).sum()
    parameters = list(objective.parameters())
    ours = torch.autograd.grad(output["loss"], parameters)
    for one, other in zip(ours, torch.autograd.grad(expected, parameters), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)
        assert one.abs().max() > 0
    if loss == "nce":
        mean = torch.stack([p.exp() for p in partitions]).mean(0).log()
        torch.testing.assert_close(output["memory"]["log_partition"], mean)


def test_the_jigsaw_is_a_function_of_seed_epoch_and_index():
    objective, pictures = network(loss="full", weight=1.0), torch.randn(4, 3, 12, 12)
    index = torch.tensor([3, 8, 0, 11])
    whole = objective([pictures], index, 1)["loss"]
    torch.manual_seed(99)
    parts = [objective([pictures[part]], index[part], 1)["loss"] for part in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(whole, sum(parts) / 2)
    assert abs(objective([pictures], index, 2)["loss"] - whole) > 1e-4


def test_crops_are_resized_to_the_size_that_is_asked_for():
    objective, seen = network(patch_size=6), []
    objective.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    pictures, index = torch.randn(2, 3, 12, 12), torch.tensor([3, 8])
    objective([pictures], index, 1)
    assert seen[0] is pictures and seen[1].shape == (18, 3, 6, 6)
    flat = network(patch_size=6)
    flat.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    flat([torch.full((2, 3, 12, 12), 2.0)], index, 1)
    torch.testing.assert_close(seen[-1], torch.full((18, 3, 6, 6), 2.0))
