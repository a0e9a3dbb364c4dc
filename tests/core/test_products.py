"""Products with large matrices against float64, and when they are oneDNN's."""

import pytest
import torch

from invp.core import neighbours, products
from invp.core.neighbours import similarities, top_k

ROWS = 3 * products.ROWS + 5  # whose last block is not full
CALLED = torch.ops.mkldnn._linear_pointwise if torch.backends.mkldnn.is_available() else None


@pytest.fixture
def calls(monkeypatch):
    """The shapes of what oneDNN multiplies."""
    seen = []

    def counted(left, weight):
        seen.append((tuple(left.shape), tuple(weight.shape)))
        return CALLED(left, weight, None, "none", [], "")

    monkeypatch.setattr(products, "_linear", counted)
    return seen


@pytest.fixture
def matrices():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 128, generator=generator), torch.randn(ROWS, 128, generator=generator)


@pytest.mark.skipif(CALLED is None, reason="this build of torch has no oneDNN")
def test_large_products_are_onednns_and_those_of_float64(calls, matrices, monkeypatch):
    left, matrix = matrices
    expected = left.double() @ matrix.double().T
    torch.testing.assert_close(products.with_each_row(left, matrix), expected.float(), rtol=1e-5, atol=1e-4)
    out = torch.empty(7, ROWS)
    assert products.with_each_row(left, matrix, out) is out
    torch.testing.assert_close(out, expected.float(), rtol=1e-5, atol=1e-4)
    assert [shape for _, shape in calls] == [(ROWS, 128), *[(products.ROWS, 128)] * 3, (5, 128)]
    buffer = torch.empty(10 * ROWS)
    assert similarities(left, matrix, buffer).data_ptr() != buffer.data_ptr() and len(calls) == 6
    monkeypatch.setattr(neighbours, "FEW", 7 * ROWS - 1)
    found = similarities(left, matrix, buffer)
    assert found.data_ptr() == buffer.data_ptr() and len(calls) == 10
    assert top_k(left, matrix, 5)[1].equal(expected.topk(5).indices.sort(1).values)


@pytest.mark.skipif(CALLED is None, reason="this build of torch has no oneDNN")
def test_large_sums_are_onednns_and_those_of_float64(calls, matrices):
    left, matrix = matrices
    weights = torch.rand(7, ROWS)
    sums = left.clone()
    assert products.add_all_rows(sums, weights, matrix) is sums
    expected = left.double() + weights.double() @ matrix.double()
    torch.testing.assert_close(sums, expected.float(), rtol=1e-4, atol=1e-3)
    assert calls == [((7, ROWS), (128, ROWS))]


def test_others_are_torchs(calls, matrices):
    """Small ones, of which the published numbers of the digits are, those of other types, and those that have a gradient."""
    left, matrix = matrices
    small = matrix[: products.LARGE // 128 - 1]
    assert products.with_each_row(left, small).equal(left @ small.T)
    assert products.with_each_row(left.double(), matrix.double()).dtype == torch.float64
    asked = left.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(products.with_each_row(asked, matrix).sum(), asked)
    torch.testing.assert_close(gradient, matrix.sum(0).expand(7, -1), rtol=1e-3, atol=1e-2)
    assert not calls
    if CALLED is not None:
        with torch.no_grad():
            products.with_each_row(asked, matrix)
        assert calls
