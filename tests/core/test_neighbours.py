"""Exact search and selection against invp.core.reference."""

import numpy as np
import pytest
import torch

from invp.core import reference
from invp.core.neighbours import ABSENT, _columns_by_groups, knn_graph, largest, merge_topk, nearest_first, top_k


def largest_columns(values: torch.Tensor, k: int) -> list[list[int]]:
    """The columns of the k largest of each row by the reference, in ascending order."""
    return [sorted(reference.nearest(row, k)) for row in values]


def integers(*shape: int, low: int = -3, high: int = 4, seed: int = 0) -> torch.Tensor:
    """Small whole numbers, whose dot products are exact, and among which there are many ties."""
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)).double()


SIZES = [(1, 1), (7, 3), (7, 7), (7, 20), (400, 1), (400, 30), (3000, 64), (3000, 200), (3000, 2900)]


@pytest.mark.parametrize(("columns", "k"), SIZES)
@pytest.mark.parametrize("ties", [False, True])
def test_largest_equals_the_reference(columns, k, ties):
    generator = torch.Generator().manual_seed(columns + k)
    values = integers(5, columns, seed=k) if ties else torch.randn(5, columns, generator=generator)
    kept, indices = largest(values, k)
    assert indices.tolist() == largest_columns(values, k)
    assert torch.equal(kept, values.gather(1, indices))


def test_largest_is_exact_where_the_sampled_columns_mislead():
    values = torch.rand(3, 5000)
    values[:, ::16] += 10  # the sample sees only large values
    values[1] = values[1].sort().values
    values[2] = values[2].sort(descending=True).values
    assert largest(values, 1000)[1].tolist() == largest_columns(values, 1000)


def test_largest_keeps_going_on_nan_and_infinity():
    values = torch.rand(3, 300)
    values[0, 5] = torch.nan
    values[1] = -torch.inf
    values[2] = torch.nan  # a feature that diverged: it must stay visible
    kept, columns = largest(values, 10)
    assert columns.shape == (3, 10) and torch.isneginf(kept[1]).all() and kept[2].isnan().all()
    assert all(len(set(row)) == 10 for row in columns.tolist())


@pytest.mark.parametrize(("columns", "k"), [(40, 30), (400, 30), (4001, 30), (5000, 7)])
@pytest.mark.parametrize("ties", [False, True])
def test_selection_by_groups_keeps_the_same_values(columns, k, ties):
    values = integers(4, columns, low=-50, high=51) if ties else torch.randn(4, columns)
    indices = _columns_by_groups(values, k)
    assert all(row == sorted(set(row)) for row in indices.tolist())
    assert torch.equal(values.gather(1, indices).sort(1).values, values.topk(k).values.flip(1))


@pytest.mark.parametrize("block", [None, 1, 7, 40])
@pytest.mark.parametrize("k", [1, 6, 40, 99])
def test_search_with_blocks_exclusion_and_a_buffer_equals_the_reference(block, k):
    queries, rows = integers(6, 5, seed=1), integers(40, 5, seed=2)
    exclude = torch.tensor([0, 39, 7, 7, 12, 6])
    similarity = torch.stack([reference.similarities(query, rows) for query in queries])
    similarity[torch.arange(6), exclude] = -torch.inf
    buffer = torch.full((6 * 40,), torch.nan, dtype=torch.float64)
    values, indices = top_k(queries, rows, k, exclude=exclude, block=block, buffer=buffer)
    assert indices.tolist() == largest_columns(similarity, k)
    assert torch.equal(values, similarity.gather(1, indices))


def test_searches_of_row_ranges_merge_to_the_search_of_all_rows():
    queries, rows = torch.randn(5, 8).double(), torch.randn(100, 8).double()
    exclude = torch.tensor([3, 33, 66, 99, 50])
    near = [top_k(queries, rows[a:b], 10, offset=a, exclude=exclude) for a, b in ((0, 33), (33, 41), (41, 100))]
    merged = merge_topk(torch.cat([one[0] for one in near], 1), torch.cat([one[1] for one in near], 1), 10)
    whole = top_k(queries, rows, 10, exclude=exclude)
    assert torch.equal(merged[1], whole[1])
    torch.testing.assert_close(merged[0], whole[0])


def test_nearest_first_drops_the_anchor_and_marks_what_is_absent():
    values = torch.tensor([[0.5, 0.9, 0.7], [0.1, 0.2, 0.3]])
    indices = torch.tensor([[4, 6, 8], [1, 2, 3]])
    similarity, near = nearest_first(values, indices, 2, exclude=torch.tensor([6, 9]))
    assert near.tolist() == [[8, 4], [3, 2]]
    torch.testing.assert_close(similarity, torch.tensor([[0.7, 0.5], [0.3, 0.2]]))
    similarity, near = nearest_first(values, indices, 4, exclude=torch.tensor([6, 9]))
    assert near.tolist() == [[8, 4, ABSENT, ABSENT], [3, 2, 1, ABSENT]]
    assert torch.isneginf(similarity[0, 2:]).all() and torch.isneginf(similarity[1, 3:]).all()


@pytest.mark.parametrize(("num_rows", "k", "query_block", "block"), [(50, 4, 7, 13), (50, 4, 1024, 131072), (5, 5, 2, 3)])
def test_graph_equals_the_reference(num_rows, k, query_block, block):
    rows = torch.nn.functional.normalize(torch.randn(num_rows, 6).double(), dim=1)
    values, indices = knn_graph(rows, k, query_block=query_block, block=block)
    for i, others in enumerate(reference.knn_graph(rows, k)):
        assert indices[i].tolist() == others + [ABSENT] * (k - len(others))
        similarity = reference.similarities(rows[i], rows)[others]
        np.testing.assert_allclose(values[i, : len(others)], similarity, atol=1e-12)
        assert torch.isneginf(values[i, len(others) :]).all()


def test_a_graph_of_identical_rows_never_holds_the_row_itself():
    indices = knn_graph(torch.ones(9, 3), 4)[1]
    assert all(i not in row and len(set(row)) == 4 for i, row in enumerate(indices.tolist()))
