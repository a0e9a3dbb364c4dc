"""PCL: MoCo's loss in the warm-up, prototypes of the momentum features afterwards."""

import pytest
import torch
from rivals import Given, images
from torch import nn

from invp.core.clusters import kmeans
from invp.core.contrastive import concentrations
from invp.objectives import moco, pcl
from invp.plumbing.errors import UserError

pytest.importorskip("faiss")
N, D, TAU = 30, 4, 0.3
OPTIONS = {"num_keys": 6, "momentum": 0.9, "temperature": TAU, "norm_group": 0}


def build(**options) -> pcl.Objective:
    config = pcl.Config(**(OPTIONS | {"num_clusters": [3, 5], "warmup_epochs": 1} | options))
    return pcl.Objective(config, Given(N, D), nn.Identity(), N, seed=3).double()


def embed(function):
    return torch.cat([function(chunk) for chunk in torch.arange(N)[:, None].split(7)])


def test_the_warm_up_is_moco():
    mine = build()
    theirs = moco.Objective(moco.Config(**OPTIONS), Given(N, D), nn.Identity(), N, seed=3).double()
    mine.begin_epoch(1, lambda function: pytest.fail("the warm-up embeds nothing"))
    views, index = [images(3, 8), images(4, 9)], torch.tensor([3, 8])
    assert torch.equal(mine(views, index, 1)["loss"], theirs(views, index, 1)["loss"])


def test_value_and_gradient_equal_loops_after_the_warm_up():
    objective = build()
    rows, views, index = objective.encoder.rows, [images(3, 8, 0), images(4, 9, 1)], torch.tensor([3, 8, 0])
    objective.begin_epoch(2, embed)
    first = objective.against_queue(*objective.embeddings(views, index, 2))["loss"]
    start = (0, 3)
    terms = []
    for number in index.tolist():
        v = rows[number] / rows[number].norm()
        for granularity, count in enumerate((3, 5)):
            own = start[granularity] + objective.cluster[granularity, number]
            every = range(start[granularity], start[granularity] + count)
            weights = [torch.exp(v @ objective.centroids[j] / objective.phi[j]) for j in every]
            terms.append(-torch.log(torch.exp(v @ objective.centroids[own] / objective.phi[own]) / sum(weights)))
    expected = first + sum(terms) / 6
    output = objective(views, index, 2)
    torch.testing.assert_close(output["loss"], expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, rows)[0] for loss in (output["loss"], expected)))


def test_prototypes_are_the_clusters_of_the_momentum_features_and_change_with_the_epoch():
    objective = build()
    with torch.no_grad():
        objective.encoder.rows.normal_()  # so that the two encoders differ
    objective.begin_epoch(2, embed)
    features = torch.nn.functional.normalize(objective.key.encoder.rows, dim=1)
    clusters = kmeans(features, 3, seed=3 * 1000003 + 2 * 2)
    assert torch.equal(objective.cluster[0], clusters.cluster)
    torch.testing.assert_close(objective.centroids[:3], torch.nn.functional.normalize(clusters.centroids, dim=1).double())
    phi = concentrations(clusters.distance, clusters.cluster, 3, TAU, 10)
    torch.testing.assert_close(objective.phi[:3], phi.double())
    torch.testing.assert_close(objective.centroids.norm(dim=1), torch.ones(8).double())
    before = objective.centroids.clone()
    objective.begin_epoch(3, embed)
    assert not torch.equal(before, objective.centroids)


def test_impossible_options_are_refused_by_name():
    with pytest.raises(UserError, match="num_clusters must be at most the 30 images"):
        build(num_clusters=[31])
