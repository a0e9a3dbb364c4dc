"""Local Aggregation: warm-up, clusters of the bank in every epoch, and the loss over close neighbours."""

import pytest
import torch
from rivals import Given, images
from torch import nn

from invp.core.clusters import kmeans
from invp.objectives import instance_discrimination
from invp.objectives.local_aggregation import Config, Objective
from invp.plumbing.errors import UserError

pytest.importorskip("faiss")
N, D, TAU, M = 40, 4, 0.3, 9
OPTIONS = {"num_background": M, "num_clusterings": 3, "num_clusters": 6, "warmup_epochs": 1, "num_negatives": 7, "temperature": TAU}


def build(**options) -> Objective:
    return Objective(Config(**(OPTIONS | options)), Given(N, D), nn.Identity(), N, seed=3).double()


def no_embedding(function):
    pytest.fail("Local Aggregation reads the bank")


def test_the_warm_up_is_instance_discrimination():
    mine, options = build(), instance_discrimination.Config("nce", num_negatives=7, temperature=TAU)
    theirs = instance_discrimination.Objective(options, Given(N, D), nn.Identity(), N, seed=3).double()
    mine.begin_epoch(1, no_embedding)
    assert (mine.cluster == 0).all()
    outputs = [objective([images(3, 8)], torch.tensor([3, 8]), 1) for objective in (mine, theirs)]
    assert torch.equal(outputs[0]["loss"], outputs[1]["loss"])
    assert torch.equal(outputs[0]["memory"]["log_partition"], outputs[1]["memory"]["log_partition"])


def test_the_bank_is_clustered_anew_in_every_epoch_and_differently_each_time():
    objective = build()
    objective.begin_epoch(2, no_embedding)
    for number in range(3):
        clusters = kmeans(objective.memory(), 6, seed=3 * 1000003 + 2 * 3 + number)
        assert torch.equal(objective.cluster[number].long(), clusters.cluster)
    assert not torch.equal(objective.cluster[0], objective.cluster[1])
    before = objective.cluster.clone()
    objective.begin_epoch(3, no_embedding)
    assert not torch.equal(before, objective.cluster)


def test_value_and_gradient_equal_loops():
    objective = build()
    rows = objective.encoder.rows
    objective.begin_epoch(2, no_embedding)
    index = [*range(0, 40, 3)]
    losses, sizes = [], []
    for number in index:
        v = rows[number] / rows[number].norm()
        p = [torch.exp(v @ b / TAU) for b in objective.bank]
        background = sorted(range(N), key=lambda j: -p[j].item())[:M]
        close = {j for j in range(N) if any(cluster[j] == cluster[number] for cluster in objective.cluster)}
        inside = [j for j in background if j in close]
        sizes.append(len(inside))
        losses.append(-torch.log(sum(p[j] for j in inside) / sum(p[j] for j in background)) if inside else v.sum() * 0)
    assert len(set(sizes)) > 2 and max(sizes) < M
    expected = sum(losses) / len(index)
    output = objective([images(*index)], torch.tensor(index), 2)
    torch.testing.assert_close(output["loss"], expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, rows)[0] for loss in (output["loss"], expected)))


def test_impossible_options_are_refused_by_name():
    with pytest.raises(UserError, match="num_clusters must be at most 40, the number of images"):
        build(num_clusters=41)
