"""Hard positives, hard negatives and similarities against invp.core.reference; sums of rows and draws."""

import pytest
import torch

from invp.core import reference
from invp.core.selection import extreme_positives, hashed_indices, membership, selected_similarities, weighted_rows


@pytest.mark.parametrize("hardest", [True, False])
@pytest.mark.parametrize("count", [1, 4, 12, 30])
@pytest.mark.parametrize("ties", [False, True])
def test_extreme_positives_equal_the_reference(hardest, count, ties):
    generator = torch.Generator().manual_seed(count)
    similarity = torch.randint(-2, 3, (6, 12), generator=generator) if ties else torch.randn(6, 12, generator=generator)
    mask = torch.rand(6, 12, generator=generator) < torch.tensor([0, 0.1, 0.3, 0.5, 0.9, 1])[:, None]
    columns, chosen = extreme_positives(similarity.double(), mask, count, hardest=hardest)
    for row in range(6):
        positives = set(mask[row].nonzero()[:, 0].tolist())
        # The most similar are those of lowest negative similarity.
        expected = reference.hard_positives(similarity[row] if hardest else -similarity[row], positives, count)
        assert columns[row][chosen[row]].tolist() == expected


@pytest.mark.parametrize("seed", range(5))
def test_what_membership_leaves_are_the_hard_negatives(seed):
    generator = torch.Generator().manual_seed(seed)
    similarity = torch.randn(8, 40, generator=generator, dtype=torch.float64)
    near = similarity.topk(15).indices.sort(1).values
    positives = torch.randint(0, 40, (8, 20), generator=generator)  # with repeats
    mask = torch.rand(8, 20, generator=generator) < 0.6
    member = membership(near, positives, mask)
    for row in range(8):
        expected = reference.hard_negatives(similarity[row], set(positives[row][mask[row]].tolist()), 15)
        assert near[row][~member[row]].tolist() == sorted(expected)
        assert member[row].sum() == 15 - len(expected)


def test_similarities_of_chosen_rows_equal_the_reference_and_their_sums_loops():
    bank, features = torch.randn(30, 5).double(), torch.randn(4, 5).double()
    index, weights = torch.randint(0, 30, (4, 9)), torch.randn(4, 9).double()
    expected = torch.stack([sum(w * bank[j] for w, j in zip(weights[i], index[i], strict=True)) for i in range(4)])
    torch.testing.assert_close(weighted_rows(weights, bank, index), expected)
    products = torch.stack([reference.similarities(features[i], bank)[index[i]] for i in range(4)])
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
