"""The nine patches of relative location and jigsaw: where they are cut, and that each shortcut's option closes it."""

import numpy as np
import pytest
import torch
from given_images import MEAN, STD, Matrix, pictures
from torch import nn

from invp.models.encoders import build_encoder
from invp.objectives._patches import PatchConfig, PatchTask
from invp.plumbing.errors import UserError

INDEX = torch.tensor([3, 8, 0, 11])
OPEN = {"patch_share": 1.0, "standardise": False, "grey": 0.0}


def task(**options) -> PatchTask:
    return PatchTask(PatchConfig(**(OPEN | options)), Matrix(4, 3), nn.Identity(), seed=3)


def test_with_all_closed_options_off_patches_are_the_cells_row_by_row():
    images = pictures(4, 13)  # cells of 4 pixels; the last row and column are left out
    found = task().patches(images, INDEX, 1).view(4, 9, 3, 4, 4)
    for row in range(3):
        for column in range(3):
            cell = images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert torch.equal(found[:, 3 * row + column], cell)


def test_cells_are_those_of_lightly():
    """Lightly's nine crops as large as a cell, which it shuffles by NumPy's global state."""
    pytest.importorskip("lightly")
    from lightly.transforms import Jigsaw
    from PIL import Image

    picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3), np.uint8)
    np.random.seed(0)
    theirs = 255 * Jigsaw(n_grid=3, img_size=12, crop_size=4)(Image.fromarray(picture))
    ours = task().patches(torch.from_numpy(picture).permute(2, 0, 1)[None].double(), INDEX[:1], 1)
    theirs, ours = ({tuple(crop.flatten().round().int().tolist()) for crop in crops} for crops in (theirs, ours))
    assert len(ours) == 9 and ours == theirs


def test_patches_lie_anywhere_in_their_cell_by_seed_epoch_and_image_alone():
    images, one = pictures(4, 18), task(patch_share=0.67)
    found = one.patches(images, INDEX, 1).view(4, 9, 3, 4, 4)
    places = set()
    for b in range(4):
        for number in range(9):
            row, column = 6 * (number // 3), 6 * (number % 3)
            at = [(i, j) for i in range(3) for j in range(3)
                  if torch.equal(found[b, number], images[b, :, row + i : row + i + 4, column + j : column + j + 4])]  # fmt: skip
            assert len(at) == 1
            places.add(at[0])
    assert len(places) == 9
    torch.manual_seed(99)
    assert torch.equal(one.patches(images[2:], INDEX[2:], 1).view(2, 9, 3, 4, 4), found[2:])
    assert not torch.equal(one.patches(images, INDEX, 2).view_as(found), found)
    other = PatchTask(one.config, one.encoder, one.head, seed=4)
    assert not torch.equal(other.patches(images, INDEX, 1).view_as(found), found)


def test_crops_are_resized_before_they_are_standardised():
    found = task(patch_size=6, standardise=True).patches(pictures(4, 12), INDEX, 1)
    assert found.shape == (36, 3, 6, 6)
    torch.testing.assert_close(found.mean((2, 3)), torch.zeros(36, 3, dtype=torch.float64))
    torch.testing.assert_close(found.std((2, 3), correction=0), torch.ones(36, 3, dtype=torch.float64))


def test_the_level_and_contrast_of_a_patch_tell_nothing_when_it_is_standardised():
    images, ramp = pictures(4, 12), torch.linspace(0.5, 2, 9, dtype=torch.float64)
    brighter = images.clone()
    for number in range(9):
        part = brighter[:, :, 4 * (number // 3) :, 4 * (number % 3) :][:, :, :4, :4]
        part.mul_(ramp[number]).add_(number)
    for closed in (True, False):
        one = task(standardise=closed)
        same = torch.allclose(one.patches(images, INDEX, 1), one.patches(brighter, INDEX, 1), rtol=1e-6)
        assert same == closed


def test_grey_images_have_no_colour_and_as_many_are_grey_as_asked_for():
    index = torch.arange(2000)
    images = pictures(2000, 3)
    mean, std = (torch.tensor(values, dtype=torch.float64)[:, None, None] for values in (MEAN, STD))
    found = (task(grey=0.3).patches(images, index, 1) * std + mean).view(2000, 9, 3)
    grey = (found.std(2) < 1e-9).all(1)
    assert abs(grey.double().mean() - 0.3) < 0.04
    pixels = (images * std + mean).flatten(2).transpose(1, 2)
    expected = pixels @ torch.tensor([0.2989, 0.587, 0.114], dtype=torch.float64)
    torch.testing.assert_close(found[grey][:, :, 0], expected[grey])
    torch.testing.assert_close(found[~grey], pixels[~grey])


def test_channels_are_shifted_one_by_one_except_in_grey_images():
    ramp = torch.arange(18, dtype=torch.float64) / 100
    images = ramp.view(1, 1, 1, 18).expand(4, 3, 18, 18)
    plain = task().patches(images, INDEX, 1)
    moved = 100 * (task(colour_shift=2).patches(images, INDEX, 1) - plain)[:, :, :, 2:4]  # away from the edges
    assert sorted({round(value) for value in moved.flatten().tolist()}) == [-2, -1, 0, 1, 2]
    torch.testing.assert_close(moved, moved[:, :, :1, :1].expand_as(moved))
    assert moved[:, :, 0, 0].std(1).max() > 0.5  # each channel by itself
    one = task(colour_shift=2, grey=1.0).patches(pictures(4, 18), INDEX, 1)
    assert torch.equal(one, task(grey=1.0).patches(pictures(4, 18), INDEX, 1))


def test_dropped_channels_leave_one_of_each_patch():
    index = torch.arange(200)
    images = pictures(200, 6)
    plain, found = task().patches(images, index, 1), task(drop_channels=True).patches(images, index, 1)
    kept = found.abs().sum((2, 3)) > 0
    assert (kept.sum(1) == 1).all() and torch.equal(found[kept], plain[kept])
    assert ((kept.double().mean(0) - 1 / 3).abs() < 0.05).all()
    assert not (kept.view(200, 9, 3) == kept.view(200, 9, 3)[:, :1]).all()  # each patch by itself


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match="^augmentation.size must be at least 3, .*, and is 2$"):
        task().patches(pictures(4, 2), INDEX, 1)
    options = {"name": "resnet_small", "stem": "auto", "width": 16, "blocks": 1, "norm": "group", "zero_init_residual": False}
    for kind in ("l", "l+ab"):
        encoder = build_encoder({**options, "input": kind, "width_share": 0.5}, 12)
        with pytest.raises(UserError, match="^objective: standardise must be false .*, and is True$"):
            PatchTask(PatchConfig(), encoder, nn.Identity(), seed=0)
        open_task = PatchTask(PatchConfig(standardise=False), encoder, nn.Identity(), seed=0)
        assert open_task.embeddings(pictures(4, 12).float(), INDEX, 1).shape == (4, 9, encoder.num_features)
