"""Jigsaw: its loss against loops over tiles that are put in a row by hand, the puzzles that are drawn, and its feature."""

import math

import pytest
import torch
from given_images import Matrix, assert_same_loss_and_gradients, layers, pictures
from torch import nn

from invp.core.permutations import distant_permutations
from invp.models.heads import build_head
from invp.objectives.jigsaw import Config, Objective

INDEX = torch.tensor([3, 8])
OPEN = {"patch_share": 1.0, "standardise": False, "grey": 0.0, "colour_shift": 0}


def network(**options) -> Objective:
    torch.manual_seed(0)
    config = Config(**({"num_permutations": 7, "permutation_seed": 2} | OPEN | options))
    return Objective(config, Matrix(4, 6), build_head({"kind": "linear", "dimensions": 4}, 6), 24, seed=3).double()


@pytest.mark.parametrize("hidden", [0, 5])
def test_value_gradient_and_accuracy_equal_loops(hidden):
    """The label is the only one for which the row of tiles is the one that the classifier was given."""
    objective, images, rows = network(hidden=hidden), pictures(2, 12), []
    objective.classifier.register_forward_pre_hook(lambda module, inputs: rows.append(inputs[0]))
    output = objective([images], INDEX, 1)
    terms, right = [], 0
    for b, image in enumerate(images):
        tiles = [image[None, :, 4 * r : 4 * r + 4, 4 * c : 4 * c + 4] for r in range(3) for c in range(3)]
        features = [objective.head(objective.encoder(tile))[0] for tile in tiles]
        puzzles = [torch.cat([features[j] for j in order]) for order in objective.permutations.tolist()]
        [label] = [number for number, puzzle in enumerate(puzzles) if torch.allclose(puzzle, rows[0][b], rtol=1e-10)]
        logits = layers(objective.classifier, puzzles[label])
        terms.append(-(logits[label] - logits.exp().sum().log()))
        right += int(logits.argmax()) == label
    assert_same_loss_and_gradients(objective, output["loss"], sum(terms) / 2)
    torch.testing.assert_close(output["metrics"]["pretext_accuracy"], torch.tensor(100 * right / 2))


def test_the_set_is_of_its_own_seed_and_in_the_state():
    one, other = network(), network(permutation_seed=3)
    assert torch.equal(one.state_dict()["permutations"], distant_permutations(7, 9, seed=2, distance="max_avg"))
    assert not torch.equal(one.permutations, other.permutations)
    assert torch.equal(network(distance="max_min").permutations, distant_permutations(7, 9, seed=2, distance="max_min"))


def test_a_puzzle_is_a_function_of_seed_epoch_and_image_and_all_are_drawn():
    objective, drawn = network(), []
    one = pictures(1, 12).expand(200, -1, -1, -1)
    objective.classifier.register_forward_pre_hook(lambda module, inputs: drawn.append(inputs[0]))
    index = torch.arange(200)
    objective([one], index, 1)
    torch.manual_seed(99)
    objective([one[:50]], index[150:], 1)
    objective([one], index, 2)
    torch.testing.assert_close(drawn[1], drawn[0][150:])
    assert len(drawn[0].detach().round(decimals=6).unique(dim=0)) == 7
    assert not torch.allclose(drawn[2], drawn[0])


def test_the_feature_is_of_the_middle_tile():
    objective, images = network(), pictures(2, 12)
    expected = nn.functional.normalize(objective.head(objective.encoder(images[:, :, 4:8, 4:8])), dim=1)
    torch.testing.assert_close(objective([images], INDEX, 1)["memory"]["feature"], expected.detach())


def test_weights_of_zero_guess():
    objective = network(patch_share=0.75, patch_size=4, standardise=True, grey=0.5, colour_shift=1)
    nn.init.zeros_(objective.classifier[-1].weight)
    metrics = objective([pictures(2, 12)], INDEX, 1)["metrics"]
    for key in ("loss_instance", "uniform_loss"):
        torch.testing.assert_close(metrics[key], torch.tensor(math.log(7), dtype=torch.float64))
