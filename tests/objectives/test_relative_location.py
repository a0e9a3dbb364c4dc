"""Relative patch location: the eight labels, its loss against loops, and its feature."""

import math

import torch
from given_images import Matrix, assert_same_loss_and_gradients, layers, pictures
from torch import nn

from invp.models.heads import build_head
from invp.objectives.relative_location import Config, Objective

INDEX = torch.tensor([3, 8])
# Row and column of each label, as the paper's figure 2 has them: 1 2 3 / 4 . 5 / 6 7 8, here from 0.
PLACES = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)]


def network(head: str = "linear", **options) -> Objective:
    torch.manual_seed(0)
    config = Config(**({"hidden": 5, "patch_share": 1.0, "standardise": False, "grey": 0.0} | options))
    return Objective(config, Matrix(4, 6), build_head({"kind": head, "dimensions": 4}, 6), 24, seed=3).double()


def test_value_gradient_and_accuracy_equal_loops_over_slices_taken_by_hand():
    objective, images = network(), pictures(2, 12)
    output = objective([images], INDEX, 1)
    terms, right = [], 0
    for image in images:
        middle = image[None, :, 4:8, 4:8]
        for label, (row, column) in enumerate(PLACES):
            other = image[None, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            pair = torch.cat([objective.head(objective.encoder(patch))[0] for patch in (middle, other)])
            logits = layers(objective.classifier, pair)
            terms.append(-(logits[label] - logits.exp().sum().log()))
            right += int(logits.argmax()) == label
    assert_same_loss_and_gradients(objective, output["loss"], sum(terms) / 16)
    torch.testing.assert_close(output["metrics"]["pretext_accuracy"], torch.tensor(100 * right / 16))


def test_the_feature_is_of_the_middle_patch():
    for head in ("linear", "none"):
        objective, images = network(head), pictures(2, 12)
        expected = nn.functional.normalize(objective.head(objective.encoder(images[:, :, 4:8, 4:8])), dim=1)
        torch.testing.assert_close(objective([images], INDEX, 1)["memory"]["feature"], expected.detach())


def test_weights_of_zero_guess():
    objective = network(patch_share=0.75, patch_size=4, standardise=True, grey=0.5, drop_channels=True)
    nn.init.zeros_(objective.classifier[-1].weight)
    metrics = objective([pictures(2, 12)], INDEX, 1)["metrics"]
    for key in ("loss_instance", "uniform_loss"):
        torch.testing.assert_close(metrics[key], torch.tensor(math.log(8), dtype=torch.float64))
    assert metrics["pretext_accuracy"] == 12.5


def test_brightness_gives_the_place_away_unless_patches_are_standardised():
    """The shortcut itself: of images that are only a slope of light, an encoder that knows the level alone says each place."""
    slope = torch.arange(12, dtype=torch.float64)
    light = (10 * slope.view(12, 1) // 4 + slope.view(1, 12) // 4 + 0.01 * (slope.view(1, 12) % 4)).expand(2, 3, 12, 12)
    for closed in (False, True):
        objective = network("none", standardise=closed)
        rows = objective.embeddings(light, INDEX, 1)
        assert (rows.std(1).max() < 1e-6) == closed
