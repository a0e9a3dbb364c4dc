"""DeepCluster: its clusters, its loss and its classifier against scikit-learn, torch and loops."""

import math

import pytest
import torch
import torch.nn.functional as F
from rivals import Given, images
from sklearn.cluster import KMeans
from torch import nn

from invp.core.whitening import whitened
from invp.objectives import deep_cluster
from invp.objectives._clusters import shared_kmeans
from invp.objectives.deep_cluster import Config, Objective
from invp.plumbing.errors import UserError

pytest.importorskip("faiss")
N, D, K, SEED = 30, 4, 5, 4  # with this seed k-means does not stop at a poor division of three blobs


def build(head: nn.Module | None = None, **options) -> Objective:
    return Objective(Config(**({"num_clusters": K} | options)), Given(N, D), head or nn.Identity(), N, seed=SEED).double()


def embed(function):
    return torch.cat([function(chunk) for chunk in torch.arange(N)[:, None].split(7)])


def clustered(*counts: int, **options) -> Objective:
    """An objective with so many images in each cluster, the first images in the first, and a classifier that has learned something."""
    objective = build(**options)
    objective.begin_epoch(1, embed)
    objective.cluster.copy_(torch.arange(K).repeat_interleave(torch.tensor(counts)))
    objective.count.copy_(torch.tensor(counts))
    objective.weight.normal_(generator=torch.Generator().manual_seed(0))
    return objective


def test_separated_blobs_are_found_as_scikit_learn_finds_them():
    blob = torch.randint(0, 3, (N,), generator=torch.Generator().manual_seed(0))
    objective = Objective(Config(num_clusters=3, components=0), Given(N, D), nn.Identity(), N, seed=SEED).double()
    with torch.no_grad():  # apart in direction, since rows come to unit length
        objective.encoder.rows.mul_(0.05).add_(torch.eye(4)[blob]).mul_(torch.linspace(1, 9, N)[:, None])
    objective.begin_epoch(1, embed)
    rows = F.normalize(objective.encoder.rows.detach(), dim=1)
    theirs = torch.from_numpy(KMeans(3, n_init=5, random_state=0).fit(rows).labels_)
    same = objective.cluster[:, None] == objective.cluster
    assert torch.equal(same, theirs[:, None] == theirs) and torch.equal(same, blob[:, None] == blob)
    assert torch.equal(objective.count, torch.bincount(objective.cluster, minlength=3))


@pytest.mark.parametrize("components", [0, 2])
def test_the_heads_features_are_whitened_and_of_unit_length_when_they_are_clustered(components, monkeypatch):
    objective = build(nn.Linear(D, 3), components=components)
    seen, seeds = [], []

    def kmeans(rows, count, *, seed, iterations):
        seen.append(rows)
        seeds.append(seed)
        return shared_kmeans(rows, count, seed=seed, iterations=iterations)

    monkeypatch.setattr(deep_cluster, "shared_kmeans", kmeans)
    for epoch in (1, 2):
        objective.begin_epoch(epoch, embed)
    features = objective.head(objective.encoder.rows).detach()
    expected = F.normalize(whitened(features, 2).double() if components else features, dim=1)
    torch.testing.assert_close(seen[0].double(), expected)
    assert seeds[0] != seeds[1]


@pytest.mark.parametrize("even", [True, False])
def test_value_and_gradient_equal_loops_and_torch(even):
    objective = clustered(12, 8, 1, 9, 0, even=even)
    index = torch.tensor([3, 15, 20, 22, 7])
    rows, total, parts = objective.encoder.rows, 0.0, 0.0
    for number in index.tolist():
        own = objective.cluster[number]
        weight = 1 / objective.count[own].item() if even else 1.0
        scores = [torch.exp(rows[number] @ w + b) for w, b in zip(objective.weight, objective.bias, strict=True)]
        parts = parts - weight * torch.log(scores[own] / sum(scores))
        total += weight
    output = objective([images(*index.tolist())], index, 1)
    weights = torch.tensor([1 / 12, 1 / 8, 1.0, 1 / 9, 1.0], dtype=torch.double) if even else None
    theirs = F.cross_entropy(F.linear(rows[index], objective.weight, objective.bias), objective.cluster[index], weight=weights)
    torch.testing.assert_close(output["loss"], theirs)
    torch.testing.assert_close(output["loss"], parts / total)
    torch.testing.assert_close(*(torch.autograd.grad(loss, rows)[0] for loss in (output["loss"], parts / total)))
    assert not list(objective.head.parameters()) and [name for name, _ in objective.named_parameters()] == ["encoder.rows"]


@pytest.mark.parametrize("even", [True, False])
def test_the_classifier_takes_the_steps_of_an_optimiser_of_its_own(even):
    objective = clustered(12, 8, 1, 9, 0, even=even, classifier_rate=0.3, classifier_decay=0.1)
    weight, bias = (nn.Parameter(tensor.clone()) for tensor in (objective.weight, objective.bias))
    optimiser = torch.optim.SGD([weight, bias], lr=0.3, weight_decay=0.1)
    for index in (torch.tensor([3, 15, 20, 22, 7]), torch.tensor([1, 2, 29, 12, 13])):
        output = objective([images(*index.tolist())], index, 1)
        logits, cluster = F.linear(objective.encoder.rows[index].detach(), weight, bias), objective.cluster[index]
        optimiser.zero_grad()
        F.cross_entropy(logits, cluster, weight=1 / objective.count.clamp(min=1).double() if even else None).backward()
        optimiser.step()
        objective.end_step(index, output["memory"])
        torch.testing.assert_close(objective.weight, weight.detach())
        torch.testing.assert_close(objective.bias, bias.detach())


def test_an_epoch_begins_with_a_new_classifier_of_which_nothing_is_left():
    trained, fresh = build(), build()
    trained.begin_epoch(1, embed)
    first, index = trained.weight.clone(), torch.arange(8)
    for _ in range(5):
        trained.end_step(index, trained([images(*index.tolist())], index, 1)["memory"])
    assert not torch.equal(trained.weight, first)
    for objective in (trained, fresh):
        torch.manual_seed(99)
        objective.begin_epoch(2, embed)
    for name, value in fresh.state_dict().items():
        assert torch.equal(value, trained.state_dict()[name]), name
    assert not torch.equal(fresh.weight, first) and fresh.weight.std().item() == pytest.approx(0.01, rel=0.5)


def test_clusters_count_evenly_and_those_without_images_not_at_all():
    objective = clustered(12, 8, 1, 9, 0)
    share = objective.image_weights(objective.cluster)
    assert [share[objective.cluster == k].sum().item() for k in range(K)] == pytest.approx([1, 1, 1, 1, 0])
    index = torch.tensor([3, 15])
    metrics = objective([images(3, 15)], index, 1)["metrics"]
    assert metrics["uniform_loss"].item() == pytest.approx(math.log(4))
    assert metrics["clusters"] == 4 and metrics["largest_cluster"].item() == pytest.approx(12 / 30)
    metrics = clustered(12, 8, 1, 9, 0, even=False)([images(3, 15)], index, 1)["metrics"]
    assert metrics["uniform_loss"].item() == pytest.approx(-sum(n / 30 * math.log(n / 30) for n in (12, 8, 1, 9)))


def test_equal_features_leave_finite_numbers():
    objective = build()
    with torch.no_grad():
        objective.encoder.rows.fill_(1.0)
    objective.begin_epoch(1, embed)
    index = torch.arange(4)
    output = objective([images(0, 1, 2, 3)], index, 1)
    objective.end_step(index, output["memory"])
    assert output["loss"].isfinite() and objective.weight.isfinite().all()


def test_impossible_options_are_refused_by_name():
    with pytest.raises(UserError, match="num_clusters must be at most 30, the number of images"):
        build(num_clusters=31)
