"""Split-brain autoencoders: both losses over places, what each half sees, and the pictures."""

import math

import pytest
import torch
import torch.nn.functional as F

from invp.core.colour import ab_centres, lab, rgb
from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.objectives.split_brain import Config, Objective

N, SIZE, Q = 24, 8, 261
ENCODER = {"name": "resnet_small", "stem": "auto", "width": 8, "blocks": 1, "norm": "group", "zero_init_residual": False}
INDEX = torch.arange(3)


def network(**options) -> Objective:
    torch.manual_seed(0)
    encoder = build_encoder(ENCODER | {"input": "l+ab", "width_share": 1.0}, SIZE)
    return Objective(Config(**options), encoder, build_head({"kind": "none", "dimensions": 1}, 64), N, seed=3)


def photographs() -> torch.Tensor:
    pictures = torch.rand(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    pictures[1, :, :4] = 1.0  # white: the upper edge of the last bin
    return pictures


def plain_targets(pixels: torch.Tensor, row: int, column: int, stride: int, count: int) -> tuple[torch.Tensor, int, int]:
    """Z of the colours (Q), its nearest bin, and the bin of the lightness, of a place of one image (3xHxW), by loops."""
    cell = lab(pixels[None])[0, :, stride * row : stride * (row + 1), stride * column : stride * (column + 1)].double()
    level, *mean = [sum(channel.flatten().tolist()) / stride**2 for channel in cell]
    squared = [sum((m - c) ** 2 for m, c in zip(mean, centre, strict=True)) for centre in ab_centres().tolist()]
    order = sorted(range(Q), key=squared.__getitem__)[:10]
    z = torch.zeros(Q, dtype=torch.float64)
    for q in order:
        z[q] = math.exp(-squared[q] / 50)
    return z / z.sum(), order[0], min(int(level * count / 100), count - 1)


@pytest.mark.parametrize(("stride", "count"), [(4, 100), (2, 7)])
def test_value_and_gradient_equal_loops_over_places(stride, count):
    objective, pictures = network(stride=stride, light_bins=count), photographs()
    side, generator = SIZE // stride, torch.Generator().manual_seed(1)
    given = [torch.randn(3, k, side, side, generator=generator, dtype=torch.float64, requires_grad=True) for k in (Q, count)]
    objective._logits = lambda images: given
    output, terms, right = objective([pictures], INDEX, 1), ([], []), ([], [])
    for b in range(3):
        for row in range(side):
            for column in range(side):
                z, nearest, level = plain_targets(pictures[b], row, column, stride, count)
                p, r = (logits[b, :, row, column].exp() / logits[b, :, row, column].exp().sum() for logits in given)
                terms[0].append(-(z * p.log()).sum())
                terms[1].append(-r[level].log())
                right[0].append(p.argmax().item() == nearest)
                right[1].append(r.argmax().item() == level)
    means = [sum(one) / len(one) for one in terms]
    torch.testing.assert_close(output["loss"], sum(means), rtol=1e-5, atol=0)
    for ours, theirs in zip(*(torch.autograd.grad(value, given) for value in (output["loss"], sum(means))), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)
        assert ours.abs().max() > 0
    seen = output["metrics"]
    torch.testing.assert_close(
        torch.stack([seen["loss_colour"], seen["loss_light"]]), torch.stack(means).detach(), rtol=1e-5, atol=0
    )
    found = [seen["pretext_accuracy_colour"], seen["pretext_accuracy_light"]]
    assert found == pytest.approx([100 * sum(one) / len(one) for one in right])
    assert seen["pretext_accuracy"] == pytest.approx(sum(found) / 2)


def test_the_right_bins_have_an_accuracy_of_100_and_a_guess_has_the_logarithms_for_loss():
    objective, pictures = network(light_bins=10), photographs()
    targets = [[plain_targets(p, row, column, 4, 10)[1:] for row in (0, 1) for column in (0, 1)] for p in pictures]
    colours, levels = (torch.tensor([[one[k] for one in image] for image in targets]).view(3, 2, 2) for k in (0, 1))
    objective._logits = lambda images: [50 * F.one_hot(t, k).movedim(3, 1).float() for t, k in ((colours, Q), (levels, 10))]
    assert objective([pictures], INDEX, 1)["metrics"]["pretext_accuracy"] == 100
    objective._logits = lambda images: (torch.zeros(3, Q, 2, 2), torch.zeros(3, 10, 2, 2))
    torch.testing.assert_close(objective([pictures], INDEX, 1)["loss"], torch.tensor(math.log(Q) + math.log(10)))


def test_neither_half_sees_what_it_is_to_say():
    objective, generator = network(), torch.Generator().manual_seed(0)
    values = torch.empty(3, 3, SIZE, SIZE)
    values[:, 0] = 45 + 10 * torch.rand(SIZE, SIZE, generator=generator)
    values[:, 1:] = 20 * torch.rand(2, SIZE, SIZE, generator=generator) - 10
    values[1, 1:] = values[1, 1:].flip(1)  # other colours, the same lightness
    values[2, 0] = values[2, 0].flip(0)  # another lightness, the same colours
    colour_logits, light_logits = objective._logits(rgb(values))
    torch.testing.assert_close(colour_logits[0], colour_logits[1], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(light_logits[0], light_logits[2], rtol=1e-3, atol=1e-3)
    assert (colour_logits[0] - colour_logits[2]).abs().max() > 1e-2
    assert (light_logits[0] - light_logits[1]).abs().max() > 1e-2


def test_pictures_are_what_each_half_says():
    objective, centres = network(light_bins=10, temperature=0.1).eval(), ab_centres()
    values = torch.zeros(3, 3, SIZE, SIZE)
    values[:, 0] = 40 + 20 * torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    said = int((centres == torch.tensor([10.0, -20.0])).all(1).nonzero())
    guesses = [20 * F.one_hot(torch.full((3, 2, 2), t), k).movedim(3, 1).float() for t, k in ((said, Q), (7, 10))]
    objective._logits = lambda images: guesses
    drawn = objective.pictures(rgb(values), INDEX)
    assert set(drawn) == {"input", "grey", "colours", "lightness"}
    torch.testing.assert_close(drawn["input"], rgb(values))
    torch.testing.assert_close(lab(drawn["grey"]), values, rtol=0, atol=0.05)
    values[:, 1:] = centres[said][:, None, None]
    torch.testing.assert_close(lab(drawn["colours"]), values, rtol=0, atol=0.05)
    values[:] = torch.tensor([75.0, 0.0, 0.0])[:, None, None]
    torch.testing.assert_close(lab(drawn["lightness"]), values, rtol=0, atol=0.05)


def test_normalised_images_of_any_size_are_drawn_in_pixels():
    drawn = network().eval().pictures(3 * torch.randn(2, 3, 11, 6), torch.arange(2))
    for picture in drawn.values():
        assert picture.shape == (2, 3, 11, 6) and picture.min() >= 0 and picture.max() <= 1 and not picture.requires_grad
