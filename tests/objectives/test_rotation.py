"""Rotation: the four turns against torchvision's, and its loss against loops."""

import math

import torch
from given_images import Matrix, assert_same_loss_and_gradients, layers, pictures
from torch import nn
from torchvision.transforms.functional import rotate

from invp.models.heads import build_head
from invp.objectives.rotation import Config, Objective, turned


def network(side: int = 4, head: str = "none") -> Objective:
    torch.manual_seed(0)
    return Objective(Config(), Matrix(side, 3), build_head({"kind": head, "dimensions": 2}, 3), 9, seed=3).double()


def test_turns_are_those_of_torchvision():
    images = pictures(3, 6).float()
    expected = torch.cat([rotate(images, 90.0 * turn) for turn in range(4)])
    assert torch.equal(turned(images), expected)
    assert not torch.equal(expected[:3], expected[3:6])


def test_value_gradient_and_accuracy_equal_loops():
    for head in ("none", "mlp"):
        objective, images = network(head=head), pictures(3, 4)
        output = objective([images], torch.arange(3), 1)
        terms, right = [], 0
        for turning in images:
            for turn in range(4):
                logits = layers(objective.classifier, objective.head(objective.encoder(turning[None]))[0])
                terms.append(-(logits[turn] - logits.exp().sum().log()))
                right += int(logits.argmax()) == turn
                turning = torch.stack([turning[:, :, 3 - i] for i in range(4)], 1)  # the last column becomes the first row
        assert_same_loss_and_gradients(objective, output["loss"], sum(terms) / 12)
        torch.testing.assert_close(output["metrics"]["pretext_accuracy"], torch.tensor(100 * right / 12))


def test_the_feature_is_of_the_images_as_they_are():
    objective, images = network(head="linear"), pictures(3, 4)
    output = objective([images], torch.arange(3), 1)
    expected = nn.functional.normalize(objective.head(objective.encoder(images)), dim=1)
    torch.testing.assert_close(output["memory"]["feature"], expected.detach())


def test_weights_of_zero_guess():
    objective = network()
    nn.init.zeros_(objective.classifier[0].weight)
    metrics = objective([pictures(3, 4)], torch.arange(3), 1)["metrics"]
    for key in ("loss_instance", "uniform_loss"):
        torch.testing.assert_close(metrics[key], torch.tensor(math.log(4), dtype=torch.float64))
    assert metrics["pretext_accuracy"] == 25  # all are said to be upright
