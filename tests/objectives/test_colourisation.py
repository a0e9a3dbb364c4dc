"""Colourisation: its loss over places, the weights of its classes, what its network sees, and its pictures."""

import math

import pytest
import torch

from invp.core.colour import ab_centres, lab, rgb
from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.objectives.colourisation import Config, Objective

N, SIZE, Q = 24, 8, 261
ENCODER = {
    "name": "resnet_small",
    "stem": "auto",
    "width": 8,
    "blocks": 1,
    "norm": "group",
    "zero_init_residual": False,
    "input": "l",
}
INDEX = torch.arange(3)


def network(**options) -> Objective:
    torch.manual_seed(0)
    encoder = build_encoder(ENCODER, SIZE)
    return Objective(Config(**options), encoder, build_head({"kind": "none", "dimensions": 1}, 32), N, seed=3)


def photographs(count: int = 3, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def plain_target(pixels: torch.Tensor, row: int, column: int, stride: int) -> tuple[torch.Tensor, int]:
    """Z, of length Q, and the nearest bin of a place of one image (3xHxW), by loops."""
    cell = lab(pixels[None])[0, 1:, stride * row : stride * (row + 1), stride * column : stride * (column + 1)].double()
    mean = [sum(channel.flatten().tolist()) / stride**2 for channel in cell]
    squared = [sum((m - c) ** 2 for m, c in zip(mean, centre, strict=True)) for centre in ab_centres().tolist()]
    order = sorted(range(Q), key=squared.__getitem__)[:10]
    z = torch.zeros(Q, dtype=torch.float64)
    for q in order:
        z[q] = math.exp(-squared[q] / 50)
    return z / z.sum(), order[0]


@pytest.mark.parametrize("stride", [4, 2])
def test_value_and_gradient_equal_loops_over_places(stride):
    objective, pictures = network(stride=stride), photographs()
    side, generator = SIZE // stride, torch.Generator().manual_seed(1)
    objective.weights.copy_(torch.rand(Q, generator=generator))
    pictures[1] = pictures[1].mean(0)  # grey: it does not count
    logits = torch.randn(3, Q, side, side, generator=generator, dtype=torch.float64, requires_grad=True)
    objective._logits = lambda images: logits
    output, expected, right = objective([pictures], INDEX, 1), 0, []
    for b in range(3):
        for row in range(side):
            for column in range(side):
                z, nearest = plain_target(pictures[b], row, column, stride)
                right.append(logits[b, :, row, column].argmax().item() == nearest)
                if b != 1:
                    p = logits[b, :, row, column].exp()
                    expected = expected - objective.weights[nearest].double() * (z * (p / p.sum()).log()).sum()
    expected = expected / (3 * side * side)
    torch.testing.assert_close(output["loss"], expected, rtol=1e-5, atol=0)
    ours, theirs = (torch.autograd.grad(value, logits)[0] for value in (output["loss"], expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)
    assert (ours[1] == 0).all() and (ours[0] != 0).any()
    assert output["metrics"]["pretext_accuracy"] == pytest.approx(100 * sum(right) / len(right))
    assert output["memory"] == {} and set(output["metrics"]) == {"pretext_accuracy"}


def test_the_metric_is_100_for_the_right_bins_and_log_q_is_the_loss_of_a_guess():
    objective, pictures = network(), photographs()
    bins = objective._targets(lab(pictures)[:, 1:])[0]
    objective._logits = lambda images: 50 * torch.nn.functional.one_hot(bins[:, 0], Q).movedim(3, 1).float()
    assert objective([pictures], INDEX, 1)["metrics"]["pretext_accuracy"] == 100
    objective._logits = lambda images: torch.zeros(3, Q, 2, 2, requires_grad=True)
    torch.testing.assert_close(objective([pictures], INDEX, 1)["loss"], torch.tensor(math.log(Q)))


def test_grey_images_count_where_the_options_let_them():
    pictures = photographs().mean(1, keepdim=True).expand(-1, 3, -1, -1)
    assert network()([pictures], INDEX, 1)["loss"] == 0
    assert network(least_colour=0.0)([pictures], INDEX, 1)["loss"] > 1


def test_weights_are_counted_once_and_are_one_without_rebalancing():
    objective, pictures, looked = network(), photographs(6), []

    def embed(function):
        looked.append(function)
        return torch.cat([function(part) for part in pictures.split(4)])

    objective.begin_epoch(2, embed)
    assert not looked and (objective.weights == 1).all()
    objective.begin_epoch(1, embed)
    shares = torch.zeros(Q, dtype=torch.float64)
    for image in pictures:
        for row in range(2):
            for column in range(2):
                shares += plain_target(image, row, column, 4)[0] / 24
    raised = 1 / (0.5 * shares + 0.5 / Q)
    torch.testing.assert_close(objective.weights, (raised / (shares * raised).sum()).float(), rtol=1e-4, atol=1e-6)
    assert objective.weights.max() > 5 * objective.weights.min()
    plain = network(uniform_share=1.0)
    plain.begin_epoch(1, embed)
    assert len(looked) == 1 and (plain.weights == 1).all()
    assert "weights" in objective.state_dict()  # a resumed training has it


def test_the_network_sees_lightness_alone():
    objective = network()
    values = torch.zeros(2, 3, SIZE, SIZE)
    values[:, 0] = 40 + 20 * torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    values[1, 1:] = torch.tensor([20.0, -15.0])[:, None, None]
    one, other = objective._logits(rgb(values))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    values[1, 0] += 10
    assert (objective._logits(rgb(values))[1] - one).abs().max() > 1e-2


def test_pictures_have_the_lightness_of_the_input_and_the_colours_that_are_said():
    objective, centres = network(temperature=0.1).eval(), ab_centres()
    values = torch.zeros(3, 3, SIZE, SIZE)
    values[:, 0] = 40 + 20 * torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    said = int((centres == torch.tensor([10.0, -20.0])).all(1).nonzero())
    objective._logits = lambda images: 20 * torch.nn.functional.one_hot(torch.full((3, 2, 2), said), Q).movedim(3, 1).float()
    drawn = objective.pictures(rgb(values), INDEX)
    assert set(drawn) == {"input", "grey", "colours"}
    torch.testing.assert_close(drawn["input"], rgb(values))
    torch.testing.assert_close(lab(drawn["grey"]), values, rtol=0, atol=0.05)
    values[:, 1:] = centres[said][:, None, None]
    torch.testing.assert_close(lab(drawn["colours"]), values, rtol=0, atol=0.05)


def test_normalised_images_of_any_size_are_drawn_in_pixels():
    objective = network().eval()
    drawn = objective.pictures(3 * torch.randn(2, 3, 11, 6), torch.arange(2))
    for picture in drawn.values():
        assert picture.shape == (2, 3, 11, 6) and picture.min() >= 0 and picture.max() <= 1 and not picture.requires_grad
