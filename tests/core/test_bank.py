"""The bank: its first rows, and updates against invp.core.reference."""

import math

import pytest
import torch

from invp.core import reference
from invp.core.bank import initial_rows, last_occurrence, update_rows


def test_first_rows_are_uniform_within_the_published_bound_and_seeded():
    before = torch.random.get_rng_state()
    rows = initial_rows(2000, 128, seed=3)
    bound = math.sqrt(3 / 128)
    assert rows.shape == (2000, 128) and rows.abs().max() <= bound and rows.abs().max() > 0.999 * bound
    assert rows.square().sum(1).mean() == pytest.approx(1, abs=0.01)
    assert rows.mean() == pytest.approx(0, abs=1e-3)
    assert torch.equal(rows, initial_rows(2000, 128, seed=3))
    assert not torch.equal(rows, initial_rows(2000, 128, seed=4))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_update_equals_the_reference_and_the_last_of_repeated_indices_wins(momentum):
    generator = torch.Generator().manual_seed(0)
    bank = torch.randn(9, 4, dtype=torch.float64, generator=generator)
    features = torch.randn(6, 4, dtype=torch.float64, generator=generator)
    index = torch.tensor([3, 0, 3, 8, 0, 3])
    expected = reference.updated_bank(bank, index.tolist(), features, momentum)
    update_rows(bank, index, features, momentum)
    torch.testing.assert_close(bank, expected)


def test_last_occurrence():
    assert last_occurrence(torch.tensor([5, 2, 5, 7, 2])).tolist() == [2, 4, 2, 3, 4]
    assert last_occurrence(torch.tensor([], dtype=torch.long)).tolist() == []
