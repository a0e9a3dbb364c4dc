"""Patches against loops."""

import torch

from invp.core.patches import grid_patches, shifted_channels, standardised, window_patches


def test_patches_of_a_grid_equal_loops():
    pictures = torch.arange(2 * 3 * 13 * 16.0).view(2, 3, 13, 16)  # thirds of 4 x 5, a row and a column are left out
    offsets = torch.randint(0, 1 << 40, (18, 2), generator=torch.Generator().manual_seed(0))
    for share, size in ((1.0, (4, 5)), (0.75, (3, 4)), (0.01, (1, 1))):
        ours = grid_patches(pictures, offsets, share)
        for b in range(2):
            for row in range(3):
                for column in range(3):
                    number = 9 * b + 3 * row + column
                    top = 4 * row + int(offsets[number, 0]) % (4 - size[0] + 1)
                    left = 5 * column + int(offsets[number, 1]) % (5 - size[1] + 1)
                    assert torch.equal(ours[number], pictures[b, :, top : top + size[0], left : left + size[1]])


def test_another_grid_has_its_own_number_of_cells():
    pictures = torch.arange(16.0).view(1, 1, 4, 4)
    found = grid_patches(pictures, torch.zeros(4, 2, dtype=torch.long), 1.0, side=2)
    assert found.tolist() == [[[[0, 1], [4, 5]]], [[[2, 3], [6, 7]]], [[[8, 9], [12, 13]]], [[[10, 11], [14, 15]]]]


def test_windows_equal_loops():
    pictures = torch.randn(2, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    found = window_patches(pictures, 8, 4)
    assert found.shape == (2, 3, 2, 3, 8, 8)
    for row in range(3):
        for column in range(2):
            assert torch.equal(found[:, row, column], pictures[:, :, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8])


def test_standardised_patches_have_neither_level_nor_contrast():
    patches = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 2
    found = standardised(patches)
    torch.testing.assert_close(found.mean((2, 3)), torch.zeros(4, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.std((2, 3), correction=0), torch.ones(4, 3))
    assert not standardised(torch.full((1, 3, 4, 4), 0.3)).abs().max() > 1e-2


def test_shifted_channels_equal_loops():
    patches = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    shifts = torch.randint(-2, 3, (2, 3, 2), generator=torch.Generator().manual_seed(0))
    assert shifts.abs().amax((0, 1)).tolist() == [2, 2]
    found = shifted_channels(patches, shifts)
    for p in range(2):
        for c in range(3):
            down, right = shifts[p, c].tolist()
            for row in range(4):
                for column in range(5):
                    source = patches[p, c, min(max(row + down, 0), 3), min(max(column + right, 0), 4)]
                    assert found[p, c, row, column] == source
    assert torch.equal(shifted_channels(patches, torch.zeros(2, 3, 2, dtype=torch.long)), patches)
