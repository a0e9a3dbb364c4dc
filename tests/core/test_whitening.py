"""Whitened components against scikit-learn's."""

import torch
from sklearn.decomposition import PCA

from invp.core.whitening import whitened


def test_components_are_scikit_learns_but_for_their_signs():
    rows = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) @ torch.randn(6, 6) + 3
    theirs = torch.from_numpy(PCA(4, whiten=True, svd_solver="full").fit_transform(rows.double().numpy())) * (200 / 199) ** 0.5
    ours = whitened(rows, 4, block=64).double()
    assert ours.shape == (200, 4)
    torch.testing.assert_close(ours * (ours * theirs).sum(0).sign(), theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(ours.T @ ours / 200, torch.eye(4, dtype=torch.double), rtol=0, atol=1e-5)


def test_what_does_not_vary_is_zero():
    rows = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)) @ torch.randn(3, 5)  # a plane of three dimensions
    found = whitened(rows, 9)
    assert found.shape == (50, 5) and found[:, 3:].eq(0).all() and found[:, :3].std(0, correction=0).sub(1).abs().max() < 1e-5
    assert whitened(torch.ones(4, 3), 2).eq(0).all()
