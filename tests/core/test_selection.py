"""Hard positives, membership and sums of rows against plain loops."""

import pytest
import torch

from invp.core.selection import extreme_positives, hashed_indices, membership, selected_similarities, weighted_rows


@pytest.mark.parametrize("hardest", [True, False])
@pytest.mark.parametrize("count", [1, 4, 12, 30])
def test_extreme_positives_equal_sorting(hardest, count):
    generator = torch.Generator().manual_seed(count)
    similarity = torch.randn(6, 12, generator=generator)
    mask = torch.rand(6, 12, generator=generator) < torch.tensor([0, 0.1, 0.3, 0.5, 0.9, 1])[:, None]
    columns, chosen = extreme_positives(similarity, mask, count, hardest=hardest)
    for row in range(6):
        order = sorted(range(12), key=lambda j: similarity[row, j].item(), reverse=not hardest)
        valid = [j for j in order if mask[row, j]]
        assert sorted(columns[row][chosen[row]].tolist()) == sorted(valid[:count])


@pytest.mark.parametrize("seed", range(5))
def test_membership_equals_sets(seed):
    generator = torch.Generator().manual_seed(seed)
    near = torch.stack([torch.randperm(40, generator=generator)[:15].sort().values for _ in range(8)])
    positives = torch.randint(0, 40, (8, 20), generator=generator)  # with repeats
    mask = torch.rand(8, 20, generator=generator) < 0.6
    expected = [[j in set(p[m].tolist()) for j in row.tolist()] for row, p, m in zip(near, positives, mask, strict=True)]
    assert membership(near, positives, mask).tolist() == expected


def test_sums_and_similarities_of_chosen_rows_equal_loops():
    bank, features = torch.randn(30, 5).double(), torch.randn(4, 5).double()
    index, weights = torch.randint(0, 30, (4, 9)), torch.randn(4, 9).double()
    expected = torch.stack([sum(w * bank[j] for w, j in zip(weights[i], index[i], strict=True)) for i in range(4)])
    torch.testing.assert_close(weighted_rows(weights, bank, index), expected)
    products = torch.stack([torch.stack([bank[j] @ features[i] for j in index[i]]) for i in range(4)])
    for block in (1, 100, 1 << 24):
        torch.testing.assert_close(selected_similarities(features, bank, index, block=block), products)


def test_hashed_draws_are_uniform_and_depend_on_seed_epoch_and_key_alone():
    keys = torch.arange(200)
    draws = hashed_indices(keys, 500, 37, seed=1, epoch=2)
    assert draws.min() >= 0 and draws.max() < 37
    counts = torch.bincount(draws.flatten(), minlength=37).double()
    expected = draws.numel() / 37
    assert ((counts - expected).square() / expected).sum() < 80  # chi-square, 36 degrees of freedom: p of 4e-5
    assert torch.equal(draws[[5, 9]], hashed_indices(torch.tensor([5, 9]), 500, 37, seed=1, epoch=2))
    for other in (hashed_indices(keys, 500, 37, seed=2, epoch=2), hashed_indices(keys, 500, 37, seed=1, epoch=3)):
        assert (draws == other).double().mean() == pytest.approx(1 / 37, abs=0.005)
    assert (draws[1:] == draws[:-1]).double().mean() == pytest.approx(1 / 37, abs=0.005)
