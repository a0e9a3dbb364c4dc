"""Dense correspondence: its matches against a picture of coordinates, its loss against loops."""

import pytest
import torch
from torch import nn

from invp.data.adjust import to_grey
from invp.models.encoders import build_encoder
from invp.objectives import dense_correspondence
from invp.objectives.dense_correspondence import Config, Objective, at_points, pair_terms
from invp.plumbing.errors import UserError

N, SIZE = 24, 16
STILL = {"rotation": 0.0, "scale": 1.0, "shift": 0.0, "gain": 0.0, "grey": 0.0}
INDEX = torch.tensor([3, 8, 0, 11])


def build(norm: str = "group", input: str = "rgb", **options) -> Objective:
    torch.manual_seed(0)
    given = {"name": "resnet_small", "stem": "auto", "width": 16, "blocks": 1, "norm": norm, "zero_init_residual": False}
    encoder = build_encoder(given | {"input": input, "width_share": 0.5}, SIZE)
    return Objective(Config(**({"num_points": 20} | options)), encoder, nn.Identity(), N, seed=3).double()


def pictures(count: int = 4) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, dtype=torch.double, generator=torch.Generator().manual_seed(1))


def coordinates(size: int) -> torch.Tensor:
    """A picture whose first channel says how far to the right a pixel's centre lies, and the second how far down, from -1 to 1."""
    line = (2 * torch.arange(size, dtype=torch.double) + 1) / size - 1
    return torch.stack([line.expand(size, size), line[:, None].expand(size, size), torch.zeros(size, size, dtype=torch.double)])


def test_the_matches_are_what_the_warped_picture_shows_at_each_point():
    objective = build(gain=0.0, grey=0.0, rotation=180.0, shift=0.3)
    theta, second = objective.warped(coordinates(64).expand(4, -1, -1, -1), INDEX, 1)
    points = 2 * torch.rand(4, 200, 2, dtype=torch.double, generator=torch.Generator().manual_seed(0)) - 1
    matches = torch.stack([theta[b] @ torch.cat([points[b].T, torch.ones(1, 200, dtype=torch.double)]) for b in range(4)]).mT
    shown = at_points(second, points)[:, :, :2]
    clear = ((matches.abs() < 0.9) & (points.abs() < 0.95)).all(2)  # where no pixel from outside is mixed in
    assert clear.sum() > 200 and theta[:, 0, 0].min() < 0 < theta[:, 0, 0].max()
    torch.testing.assert_close(shown[clear], matches[clear], rtol=0, atol=1e-9)


def test_a_picture_that_stays_as_it_is_has_no_loss_of_matches():
    output = build(**STILL)([pictures()], INDEX, 1)
    assert output["metrics"]["loss_matches"] < 1e-20 and output["metrics"]["points_inside"] == 1
    assert output["metrics"]["pretext_accuracy"] > 95  # in a corner, points can have equal descriptors
    assert build()([pictures()], INDEX, 1)["metrics"]["loss_matches"] > 1e-6


def test_of_a_batch_of_which_half_stays_the_other_half_has_all_the_loss(monkeypatch):
    uniform = dense_correspondence.hashed_uniform

    def half(keys, count, *numbers):
        draws = uniform(keys, count, *numbers)
        if count == 6:  # the warp's: in the middle it does nothing
            draws[:2] = 0.5
        return draws

    monkeypatch.setattr(dense_correspondence, "hashed_uniform", half)
    objective, seen, terms = build(), [], dense_correspondence.pair_terms
    monkeypatch.setattr(dense_correspondence, "pair_terms", lambda *arguments: seen.append(terms(*arguments)) or seen[-1])
    output = objective([pictures()], INDEX, 1)
    near = seen[0][0]
    assert near[:2].max() < 1e-20 and near[2:].min() > 1e-6
    torch.testing.assert_close(output["metrics"]["loss_matches"], near[2:].sum() / 4)


def test_the_terms_and_their_gradient_equal_loops():
    config = Config(margin=1.2, apart=0.2)
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.randn(3, 9, 2, dtype=torch.double, generator=generator).requires_grad_() for _ in range(2))
    points = 2 * torch.rand(3, 9, 2, dtype=torch.double, generator=generator) - 1
    inside = torch.rand(3, 9, generator=generator) < 0.7
    inside[2] = False  # a picture without a point
    near, far, found = pair_terms(one, other, points, inside, config)
    total, alone = 0.0, 0
    for b in range(2):
        valid = [p for p in range(9) if inside[b, p]]
        matches = sum((one[b, p] - other[b, p]).square().sum() for p in valid) / len(valid)
        hinges = []
        for p in valid:
            for q in valid:
                away = (points[b, p] - points[b, q]).norm() / 2 > config.apart
                gap = config.margin - (one[b, p] - other[b, q]).norm()
                alone += int(not away and p != q)
                if away and gap > 0:
                    hinges.append(gap**2)
        others = sum(hinges) / len(hinges)
        torch.testing.assert_close(near[b], matches)
        torch.testing.assert_close(far[b], others)
        right = [min(valid, key=lambda q, p=p, b=b: (one[b, p] - other[b, q]).norm()) == p for p in valid]
        assert found[b].item() == pytest.approx(sum(right) / len(valid))
        total = total + matches + others
    assert alone > 0 and near[2] == far[2] == found[2] == 0
    for ours, theirs in zip(*(torch.autograd.grad(x, [one, other]) for x in ((near + far).sum(), total)), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_equal_descriptors_cost_the_square_of_the_margin_and_have_a_finite_gradient():
    objective = build(margin=0.7)
    nn.init.zeros_(objective.descriptor.weight)
    output = objective([pictures()], INDEX, 1)
    assert output["loss"].item() == pytest.approx(0.49) and output["metrics"]["loss_matches"] < 1e-20
    output["loss"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in objective.parameters())


def test_the_loss_is_that_of_the_maps_drawn_out_to_the_pictures_size():
    objective = build(num_points=30)
    views = [pictures()]
    maps = objective.maps(views[0])
    large = nn.functional.interpolate(maps, (SIZE, SIZE), mode="bilinear", align_corners=False)
    centres = coordinates(SIZE)[:2].flatten(1).T.expand(4, -1, -1)
    torch.testing.assert_close(at_points(maps, centres), large.flatten(2).mT)
    assert objective(views, INDEX, 1)["loss"].requires_grad


def test_colours_change_by_a_gain_and_are_lost_by_chance():
    still = {**STILL, "gain": 0.4}
    _, second = build(**still).warped(pictures(), INDEX, 1)
    factor = (second / pictures()).flatten(1).max(1).values  # where nothing is clamped
    torch.testing.assert_close(second, (pictures() * factor[:, None, None, None]).clamp(0, 1))
    assert (factor > 0.6).all() and (factor < 1.4).all() and factor.std() > 0.05
    index = torch.arange(40)
    objective = build(**{**STILL, "grey": 0.5})
    objective.encoder.mean += 0.4
    objective.encoder.std *= 0.5
    _, second = objective.warped((pictures(40) - 0.4) / 0.5, index, 1)
    grey = (second[:, 0] == second[:, 1]).flatten(1).all(1)
    assert 10 < grey.sum() < 30
    plain = (pictures(40) - 0.4) / 0.5
    torch.testing.assert_close(second[~grey], plain[~grey])
    torch.testing.assert_close(second[grey], ((to_grey(pictures(40)) - 0.4) / 0.5).expand(-1, 3, -1, -1)[grey])


def test_the_draws_are_a_function_of_seed_epoch_and_index():
    objective = build()
    whole = objective([pictures()], INDEX, 1)["loss"]
    torch.manual_seed(99)
    parts = [objective([pictures()[part]], INDEX[part], 1)["loss"] for part in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(whole, sum(parts) / 2)
    assert abs(objective([pictures()], INDEX, 2)["loss"] - whole) > 1e-6


@pytest.mark.parametrize("input", ["rgb", "l+ab"])
@pytest.mark.parametrize(("block", "channels", "side"), [("stem", 16, 16), ("layer1.0", 16, 16), ("layer2.0", 32, 8), ("", 64, 4)])
def test_a_block_is_chosen_by_its_name_and_what_lies_behind_is_not_trained(block, channels, side, input):
    objective = build(block=block, dimensions=5, input=input).float()  # colours have 32 bits
    assert objective.descriptor.in_channels == channels and objective.maps(pictures().float()).shape == (4, 5, side, side)
    objective([pictures().float()], INDEX, 1)["loss"].backward()
    for name, parameter in objective.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name
    behind = ["layer1", "layer2", "layer3"][["stem", "layer1.0", "layer2.0", ""].index(block) :]
    frozen = {name.split("layer")[1][0] for name, parameter in objective.named_parameters() if not parameter.requires_grad}
    assert frozen == {name[-1] for name in behind}


def test_to_look_for_the_channels_leaves_no_trace_in_batch_statistics():
    encoder = build("batch").encoder
    assert encoder.training and encoder.bn1.num_batches_tracked == 0


def test_impossible_options_are_refused_by_name():
    with pytest.raises(UserError, match="block must be one of stem, layer1.0, layer2.0, layer3.0, or empty, and is 'layer4.0'"):
        build(block="layer4.0")
