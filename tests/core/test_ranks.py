"""Measures without labels at their ends, and against numpy's SVD, lightly's loss, scipy's generalised eigenvalues and plain loops."""

import importlib.util
import runpy
from pathlib import Path

import numpy as np
import pytest
import scipy.linalg
import torch

from invp.core import ranks


def unit(seed: int, count: int, dimensions: int = 7) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dimensions))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def by_svd(rows: np.ndarray) -> float:
    sizes = np.linalg.svd(rows.astype(np.float64), compute_uv=False)
    shares = sizes / sizes.sum() + 1e-7
    return float(np.exp(-sum(p * np.log(p) for p in shares)))


def test_orthonormal_rows_use_every_dimension_and_one_row_again_and_again_uses_one():
    basis = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))[0].astype(np.float32)
    assert ranks.rankme(basis) == pytest.approx(12, rel=1e-4) and ranks.rankme(basis[:5]) == pytest.approx(5, rel=1e-4)
    assert ranks.rankme(basis * 40) == pytest.approx(ranks.rankme(basis)), "of the size of features it knows nothing"
    assert ranks.rankme(np.tile(basis[:1], (30, 1))) == pytest.approx(1, abs=1e-3)
    # Singular values 1, 2 and 3: shares 1/6, 1/3, 1/2.
    by_hand = np.exp(np.log(6) / 6 + np.log(3) / 3 + np.log(2) / 2)
    assert ranks.rankme(np.repeat(basis[:3], [1, 4, 9], 0)) == pytest.approx(by_hand, rel=1e-4)
    assert ranks.rankme(np.zeros((4, 3), np.float32)) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("shape", [(300, 7), (5, 40), (40, 40)])
def test_rankme_is_that_of_the_singular_values(shape, monkeypatch):
    monkeypatch.setattr(ranks, "BLOCK", 64)
    rows = (np.random.default_rng(1).normal(size=shape) * np.linspace(1, 30, shape[1]) + 2).astype(np.float32)
    assert ranks.rankme(rows) == pytest.approx(by_svd(rows), rel=1e-5) and ranks.rankme(rows) < min(shape)
    assert ranks.rankme(rows - rows.mean(0)) != pytest.approx(by_svd(rows), rel=1e-3), "rows are not centred"


def test_alignment_and_uniformity_at_their_ends():
    basis = np.eye(4, dtype=np.float32)
    assert ranks.alignment(basis, basis) == 0 and ranks.alignment(basis, -basis) == 4
    assert ranks.alignment(basis, basis[[1, 0, 2, 3]]) == pytest.approx((2 + 2 + 0 + 0) / 4)
    assert ranks.uniformity(np.tile(basis[:1], (5, 1))) == 0
    assert ranks.uniformity(basis) == pytest.approx(-4), "all squared distances are 2"


def test_alignment_and_uniformity_together_are_lightlys_loss(monkeypatch):
    package = importlib.util.find_spec("lightly")
    if package is None:
        # It is no dependency: CI installs it for this comparison, and a user who runs the tests need not.
        pytest.skip("lightly is not installed")
    # The file alone: the package brings much along.
    lightly = runpy.run_path(str(Path(package.submodule_search_locations[0]) / "loss/hypersphere_loss.py"))
    monkeypatch.setattr(ranks, "BLOCK", 16)
    first, second = unit(0, 50), unit(1, 50)
    theirs = float(lightly["HypersphereLoss"](t=2, lam=1, alpha=2)(torch.from_numpy(first), torch.from_numpy(second)))
    ours = ranks.alignment(first, second) + (ranks.uniformity(first) + ranks.uniformity(second)) / 2
    assert ours == pytest.approx(theirs, rel=1e-5)


def test_uniformity_equals_loops():
    rows = unit(3, 30).astype(np.float64)
    pairs = [np.exp(-2 * ((x - y) ** 2).sum()) for i, x in enumerate(rows) for y in rows[:i]]
    assert ranks.uniformity(unit(3, 30)) == pytest.approx(np.log(np.mean(pairs)), rel=1e-5)


def test_lidar_equals_the_generalised_eigenvalues_of_covariances_by_loops():
    rng = np.random.default_rng(4)
    views = (3 * rng.normal(size=(20, 1, 6)) * np.arange(1, 7) + rng.normal(size=(20, 5, 6))).astype(np.float32)
    within, between = 1e-4 * np.eye(6), np.zeros((6, 6))
    means = views.astype(np.float64).mean(1)
    for own, mean in zip(views.astype(np.float64), means, strict=True):
        between += np.outer(mean - means.mean(0), mean - means.mean(0)) / 19
        within += sum(np.outer(view - mean, view - mean) for view in own) / (20 * 4)
    sizes = scipy.linalg.eigh(between, within, eigvals_only=True)
    shares = sizes / sizes.sum() + 1e-7
    assert ranks.lidar(views) == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-6)


def test_lidar_counts_the_directions_in_which_images_differ_more_than_their_views():
    noise = 0.1 * np.random.default_rng(5).normal(size=(64, 40, 8))
    corners = np.array([[i >> n & 1 for n in range(6)] for i in range(64)]) * 2.0 - 1  # of six directions, evenly
    images = np.concatenate([corners, np.zeros((64, 2))], 1)[:, None]
    assert ranks.lidar(images + noise) == pytest.approx(6, abs=0.1)
    assert ranks.rankme((images + noise).reshape(-1, 8)) > 6.5, "which counts those of the views too"
    stretched = images * np.array([9, 1, 1, 1, 1, 1, 1, 1]) + noise * np.array([9, 1, 1, 1, 1, 1, 1, 1])
    assert ranks.lidar(stretched) == pytest.approx(6, abs=0.1), "where views differ as much more as images do, nothing is won"
