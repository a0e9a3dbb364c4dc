"""The rivals' losses against plain loops in float64, with autograd for the gradients."""

import math

import numpy as np
import pytest
import torch

from invp.core import reference
from invp.core.clusters import kmeans
from invp.core.contrastive import concentrations, info_nce, nt_xent, prototype_loss, row_entropies, set_loss

TAU = 0.3


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    rows = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.nn.functional.normalize(rows, dim=-1)


def assert_same(ours: torch.Tensor, theirs: torch.Tensor, *inputs: torch.Tensor) -> None:
    """Values, and gradients of their sums by the inputs."""
    torch.testing.assert_close(ours, theirs)
    for one, other in zip(torch.autograd.grad(ours.sum(), inputs), torch.autograd.grad(theirs.sum(), inputs), strict=True):
        torch.testing.assert_close(one, other)
        assert one.abs().max() > 0


def test_info_nce_equals_loops():
    q, k, queue = unit(5, 4).requires_grad_(), unit(5, 4, seed=1), unit(7, 4, seed=2)
    losses = []
    for i in range(5):
        own = torch.exp(q[i] @ k[i] / TAU)
        losses.append(-torch.log(own / (own + sum(torch.exp(q[i] @ n / TAU) for n in queue))))
    assert_same(info_nce(q, k, queue, TAU), torch.stack(losses), q)


def test_nt_xent_equals_loops():
    views = unit(6, 4).requires_grad_()  # images 0 1 2, then their second views
    own, positive = torch.arange(6), torch.tensor([3, 4, 5, 0, 1, 2])
    losses = []
    for i in range(6):
        others = [torch.exp(views[i] @ views[j] / TAU) for j in range(6) if j != i]
        losses.append(-torch.log(torch.exp(views[i] @ views[positive[i]] / TAU) / sum(others)))
    assert_same(nt_xent(views, views, own, positive, TAU), torch.stack(losses), views)


def test_set_loss_equals_the_reference_and_an_empty_set_adds_nothing():
    s = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(3)).requires_grad_()
    members = torch.tensor([[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 1]]).bool()
    losses = []
    for i in range(4):
        members_of_i = members[i].nonzero()[:, 0].tolist()
        losses.append(-torch.log(reference.set_probability(members_of_i, s[i], TAU)) if members_of_i else s[i].sum() * 0)
    expected = torch.stack(losses)
    loss, by_similarity = set_loss(s.detach(), members, TAU)
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(by_similarity, torch.autograd.grad(expected.sum(), s)[0])
    assert loss[1] == 0 and (by_similarity[1] == 0).all()


@pytest.mark.parametrize("scale", [1e3, 1e-3])
def test_set_loss_stays_finite(scale):
    s = scale * torch.randn(4, 50, generator=torch.Generator().manual_seed(3))
    loss, by_similarity = set_loss(s, s > s.median(), 0.07)
    assert loss.isfinite().all() and by_similarity.isfinite().all()


def test_entropies_equal_loops_in_blocks():
    rows = unit(9, 4)
    expected = []
    for row in rows:
        p = [math.exp(row @ other / TAU) for other in rows]
        expected.append(-sum(x / sum(p) * math.log(x / sum(p)) for x in p))
    for block in (2, 100):
        torch.testing.assert_close(row_entropies(rows, TAU, block=block), torch.tensor(expected, dtype=torch.float64))


def test_prototype_loss_equals_loops():
    features, centroids = unit(5, 4).requires_grad_(), unit(3, 4, seed=1)
    phi, cluster = torch.tensor([0.1, 0.2, 0.5], dtype=torch.float64), torch.tensor([0, 2, 1, 1, 0])
    losses = []
    for i in range(5):
        terms = [torch.exp(features[i] @ centroids[j] / phi[j]) for j in range(3)]
        losses.append(-torch.log(terms[cluster[i]] / sum(terms)))
    assert_same(prototype_loss(features, cluster, centroids, phi), torch.stack(losses), features)


def test_concentrations_equal_the_loops_of_the_authors_code():
    """Loops over clusters as in PCL's run_kmeans: a cluster of one takes the largest, then the percentiles, then the mean."""
    random = np.random.default_rng(0)
    cluster = np.concatenate([random.integers(0, 11, 200), [11]])  # the twelfth has one member
    distance = random.uniform(0.1, 1.0, 201)
    density = np.zeros(12)
    for number in range(12):
        members = distance[cluster == number]
        if len(members) > 1:
            density[number] = members.mean() / np.log(len(members) + 10)
    density[11] = density.max()
    density = density.clip(np.percentile(density, 10), np.percentile(density, 90))
    expected = torch.from_numpy(0.2 * density / density.mean())
    torch.testing.assert_close(concentrations(torch.from_numpy(distance), torch.from_numpy(cluster), 12, 0.2, 10), expected)


def test_concentrations_of_points_on_their_centroids_are_tau():
    phi = concentrations(torch.zeros(4), torch.tensor([0, 0, 1, 1]), 2, 0.2, 10)
    assert torch.equal(phi, torch.full((2,), 0.2))


def test_kmeans_finds_clusters_and_is_a_function_of_rows_and_seed():
    pytest.importorskip("faiss")
    centres = torch.eye(4)
    truth = torch.arange(80) % 4
    rows = centres[truth] + 0.05 * torch.randn(80, 4, generator=torch.Generator().manual_seed(0))
    best = min((kmeans(rows, 4, seed=seed) for seed in range(5)), key=lambda clusters: clusters.distance.sum())
    assert all(len(best.cluster[truth == label].unique()) == 1 for label in range(4)) and len(best.cluster.unique()) == 4
    for number in range(4):
        mean = rows[best.cluster == number].mean(0)
        torch.testing.assert_close(best.centroids[number], mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(best.distance, (rows - best.centroids[best.cluster]).norm(dim=1), rtol=1e-3, atol=1e-3)
    torch.manual_seed(1)
    one, two = kmeans(rows, 9, seed=3), kmeans(rows, 9, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not torch.equal(one.centroids, kmeans(rows, 9, seed=4).centroids)


def test_nt_xent_and_info_nce_equal_lightly():
    losses = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    first, second = unit(6, 5).requires_grad_(), unit(6, 5, seed=1).requires_grad_()
    # lightly normalises inside, through which its gradient flows.
    one, two = (torch.nn.functional.normalize(rows, dim=1) for rows in (first, second))
    views, own = torch.cat([one, two]), torch.arange(12)
    theirs = losses.NTXentLoss(temperature=TAU)(first, second)
    assert_same(nt_xent(views, views, own, own.roll(6), TAU).mean(), theirs, first, second)
    theirs = losses.NTXentLoss(temperature=TAU, memory_bank_size=(9, 5))
    queue = theirs.memory_bank.bank.double().clone()
    theirs.memory_bank.bank = queue.clone()
    one = torch.nn.functional.normalize(first, dim=1)
    assert_same(info_nce(one, second.detach(), queue, TAU).mean(), theirs(first, second.detach()), first)
