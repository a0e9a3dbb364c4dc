"""The jigsaw's permutations against SciPy's distances and a loop over all that are left."""

from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from invp.core.permutations import DISTANCES, all_permutations, distant_permutations


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("seed", [0, 1, 7])
def test_each_choice_is_the_farthest_of_those_left(distance, seed):
    """All 24 permutations of four: each choice has the largest mean or least Hamming distance, and of equal ones it is the first."""
    ours = distant_permutations(24, 4, seed=seed, distance=distance).tolist()
    left = [list(row) for row in permutations(range(4))]
    chosen = [left.pop(left.index(ours[0]))]
    for found in ours[1:]:
        apart = cdist(left, chosen, metric="hamming")
        scores = apart.mean(1) if distance == "max_avg" else apart.min(1)
        best = int(np.flatnonzero(np.isclose(scores, scores.max()))[0])
        assert found == left[best]
        chosen.append(left.pop(best))
    assert not left


def test_rules_seeds_and_counts():
    sets = [distant_permutations(12, 4, seed=seed, distance=rule) for seed in range(3) for rule in DISTANCES]
    assert len({tuple(one.flatten().tolist()) for one in sets}) > 3
    assert torch.equal(sets[0], distant_permutations(12, 4, seed=0, distance="max_avg"))
    assert torch.equal(sets[0][:5], distant_permutations(5, 4, seed=0, distance="max_avg"))  # chosen one by one


def test_permutations_of_nine_are_in_order_and_far_from_each_other():
    rows = all_permutations(9)
    assert rows.shape == (362880, 9) and rows[0].tolist() == list(range(9)) and rows[-1].tolist() == list(range(9))[::-1]
    for distance in DISTANCES:
        chosen = distant_permutations(20, 9, seed=0, distance=distance)
        assert chosen.dtype == torch.int64 and (chosen.sort(1).values == torch.arange(9)).all()
        apart = 9 * cdist(chosen, chosen, metric="hamming")[np.triu_indices(20, 1)]
        assert apart.mean() > 8.2  # a random pair: 8
        assert distance == "max_avg" or apart.min() >= 8
