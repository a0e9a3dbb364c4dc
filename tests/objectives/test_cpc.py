"""CPC: its loss against loops, what the context sees, and what is done to each patch."""

import math

import pytest
import torch
from torch import nn

from invp.core.patches import window_patches
from invp.data.adjust import to_grey
from invp.models.encoders import ImageEncoder, build_encoder
from invp.models.heads import build_head
from invp.objectives.cpc import Config, Objective
from invp.plumbing.errors import UserError

N, SIZE = 24, 20  # with patches of 8 and a stride of 4: 4 x 4 places
OPTIONS = {"farthest": 3, "temperature": 0.0, "flip": 0.0, "grey": 0.0}


class Linear(ImageEncoder):
    """A linear map of a patch's pixels, which every test can follow."""

    def __init__(self, pixels: int = 8 * 8 * 3, num_features: int = 6) -> None:
        super().__init__()
        self.num_features = num_features
        self.map = nn.Linear(pixels, num_features)

    def forward(self, images):
        return self.map(images.flatten(1))


def build(encoder: nn.Module | None = None, head: nn.Module | None = None, **options) -> Objective:
    torch.manual_seed(0)
    return Objective(Config(**(OPTIONS | options)), encoder or Linear(), head or nn.Identity(), N, seed=3).double()


def pictures(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, dtype=torch.double, generator=torch.Generator().manual_seed(1))


CASES = [(2, None, 0.0), (1, build_head({"kind": "linear", "dimensions": 5}, 6), 0.3)]


@pytest.mark.parametrize(("nearest", "head", "temperature"), CASES)
def test_value_and_gradient_equal_loops(nearest, head, temperature):
    objective, views, index = build(nearest=nearest, head=head, temperature=temperature), pictures(), torch.tensor([3, 8, 0])
    z = {}
    for b in range(3):
        for i in range(4):
            for j in range(4):
                z[b, i, j] = objective.encoder(views[b : b + 1, :, 4 * i : 4 * i + 8, 4 * j : 4 * j + 8])[0]
    grid = torch.stack([torch.stack([torch.stack([z[b, i, j] for j in range(4)], 1) for i in range(4)], 1) for b in range(3)])
    context = objective.context(grid)
    target = {place: objective.head(row) for place, row in z.items()}
    terms = []
    for b in range(3):
        for k in range(nearest, 4):
            for i in range(4 - k):
                for j in range(4):
                    guess = objective.predictors[k - nearest].weight @ context[b, :, i, j]
                    scale = {
                        place: temperature * guess.norm() * row.norm() if temperature else 1.0 for place, row in target.items()
                    }
                    weights = {place: torch.exp(guess @ row / scale[place]) for place, row in target.items()}
                    terms.append(-torch.log(weights[b, i + k, j] / sum(weights.values())))
    expected, output = sum(terms) / len(terms), objective([views], index, 1)
    torch.testing.assert_close(output["loss"], expected)
    parameters = list(objective.parameters())
    for one, other in zip(*(torch.autograd.grad(loss, parameters) for loss in (output["loss"], expected)), strict=True):
        torch.testing.assert_close(one, other)


def test_the_context_of_a_row_depends_on_no_row_below_and_on_those_above():
    context = build().context
    grid = torch.randn(2, 6, 5, 4, dtype=torch.double, requires_grad=True)
    seen = context(grid)
    for i in range(5):
        by_row = torch.autograd.grad(seen[0, :, i, 2].sum(), grid, retain_graph=True)[0].abs().amax((1, 3))
        assert by_row[1].max() == 0, "another image"
        assert by_row[0, i + 1 :].eq(0).all(), "a row below"
        assert by_row[0, max(0, i - 3) : i + 1].gt(0).all(), "three layers see the row itself and three above"
        assert by_row[0, : max(0, i - 3)].eq(0).all()


def test_what_is_predicted_never_reaches_its_prediction():
    """Through the whole objective: of overlapping patches, one pixel lies in two rows, and with k of at least 2 in no other's context."""
    objective = build()
    views = pictures(1).requires_grad_()
    features = objective.encoder(window_patches(views, 8, 4).flatten(0, 2)).view(1, 4, 4, -1).permute(0, 3, 1, 2)
    context = objective.context(features).permute(0, 2, 3, 1)
    by_pixel = torch.autograd.grad(context[:, :2].sum(), views)[0]  # rows 0 and 1: pixels 0 to 11
    assert by_pixel[:, :, :12].abs().min() > 0 and by_pixel[:, :, 12:].eq(0).all()
    found, own = objective._predictions(context)
    assert own.tolist() == [8, 9, 10, 11, 12, 13, 14, 15, 12, 13, 14, 15] and found.shape == (12, 6)


def test_equal_vectors_give_the_log_of_all_places_and_images_that_are_told_apart_that_of_their_own():
    objective = build()
    nn.init.zeros_(objective.encoder.map.weight)
    output = objective([pictures()], torch.tensor([3, 8, 0]), 1)
    assert output["loss"].item() == pytest.approx(math.log(3 * 16))
    assert output["metrics"]["feature_std"] == 0
    # All places of an image alike, and told from those of others: a place is found, but not which.
    told = build(Linear(num_features=3))
    nn.init.zeros_(told.encoder.map.bias)
    nn.init.zeros_(told.encoder.map.weight)
    with torch.no_grad():
        told.encoder.map.weight[:, :].view(3, 3, 64)[torch.arange(3), torch.arange(3)] = 1.0  # the sum of each channel
        for layer in told.context:
            layer.mix.weight.zero_()
            layer.mix.bias.zero_()
        for predictor in told.predictors:
            predictor.weight.copy_(torch.eye(3))
        colours = torch.eye(3, dtype=torch.double)[:, :, None, None].expand(3, 3, SIZE, SIZE)
        output = told([colours], torch.tensor([3, 8, 0]), 1)
        assert output["loss"].item() == pytest.approx(math.log(16))
        assert output["metrics"]["pretext_accuracy"] <= 100 / 4  # of equal logits one is taken


def test_each_patch_has_its_own_flip_grey_and_crop_of_seed_epoch_and_index():
    objective = build(flip=0.5, grey=0.5)
    patches, index = window_patches(pictures(8), 8, 4), torch.arange(8)
    whole = objective._altered(patches, index, 1)
    plain = patches.flatten(0, 2)
    kinds = []
    for one, own in zip(whole, plain, strict=True):
        grey = to_grey(own[None])[0].expand(3, -1, -1)
        options = [own, own.flip(2), grey, grey.flip(2)]
        kinds.append(next(n for n, each in enumerate(options) if torch.allclose(one, each)))
    assert min(kinds.count(n) for n in range(4)) > 15  # of 128
    assert len(set(map(tuple, torch.tensor(kinds).view(8, 16).tolist()))) == 8
    torch.manual_seed(99)
    torch.testing.assert_close(objective._altered(patches[2:3], index[2:3], 1), whole[32:48])
    assert not torch.equal(objective._altered(patches, index, 2), whole)
    assert torch.equal(build()._altered(patches, index, 1), plain)
    cropped = build(patch_share=0.75)._altered(patches, index, 1)
    assert cropped.shape == (128, 3, 6, 6)
    corners = {
        (top, left)
        for one, own in zip(cropped, plain, strict=True)
        for top in range(3)
        for left in range(3)
        if torch.equal(one, own[:, top : top + 6, left : left + 6])
    }
    assert len(corners) == 9


def test_a_grey_patch_is_normalised_as_the_others_are():
    encoder = Linear()
    encoder.mean, encoder.std = encoder.mean + 0.4, encoder.std * 0.5
    objective = build(encoder, grey=1.0)
    patches = window_patches(pictures(1), 8, 4)
    grey = to_grey(patches.flatten(0, 2)).expand(-1, 3, -1, -1)
    torch.testing.assert_close(objective._altered((patches - 0.4) / 0.5, torch.tensor([3]), 1), (grey - 0.4) / 0.5)


def test_batch_normalisation_is_refused_unless_it_is_allowed():
    def encoder(norm):
        return build_encoder(
            {"name": "resnet_small", "stem": "auto", "width": 8, "blocks": 1, "norm": norm, "zero_init_residual": False}, 8
        )

    with pytest.raises(UserError, match="norm: group.*allow_batch_norm"):
        build(encoder("batch"))
    pixels = window_patches(pictures(2), 8, 4).flatten(0, 2).requires_grad_()
    for norm, leaks in (("group", False), ("batch", True)):
        objective = build(encoder(norm), allow_batch_norm=norm == "batch")
        by_pixel = torch.autograd.grad(objective.encoder(pixels)[0].square().sum(), pixels)[0]
        assert (by_pixel[1:].abs().max() > 0) == leaks  # one patch's feature depends on the other patches


def test_impossible_options_are_refused_by_name():
    with pytest.raises(UserError, match="farthest must be at least nearest, 5"):
        build(nearest=5)
    with pytest.raises(UserError, match="farthest must be below 4, the rows of patches in a view of 20 pixels"):
        build(farthest=4)([pictures()], torch.tensor([3, 8, 0]), 1)
