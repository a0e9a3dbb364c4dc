"""MoCo: its loss, where gradients flow, queue, momentum encoder and shuffled batch normalisation."""

import pytest
import torch
from rivals import Given, images
from torch import nn

from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.objectives._momentum import GroupedBatchNorm, MomentumCopy
from invp.objectives.moco import Config, Objective
from invp.plumbing.errors import UserError

N, D, K, TAU = 12, 4, 6, 0.3
ENCODER = {"name": "resnet_small", "stem": "auto", "width": 8, "blocks": 1, "norm": "batch", "zero_init_residual": False}


def build(**options) -> Objective:
    config = Config(**({"num_keys": K, "momentum": 0.9, "temperature": TAU, "norm_group": 0} | options))
    return Objective(config, Given(N, D), nn.Identity(), N, seed=3).double()


def test_value_and_gradient_equal_loops_and_keys_take_no_gradient():
    objective = build()
    rows = objective.encoder.rows
    output = objective([images(3, 8, 0), images(4, 9, 1)], torch.tensor([3, 8, 0]), 1)
    losses = []
    for query, key in ((3, 4), (8, 9), (0, 1)):
        q, k = rows[query] / rows[query].norm(), (rows[key] / rows[key].norm()).detach()
        negatives = sum(torch.exp(q @ n / TAU) for n in objective.queue)
        losses.append(-torch.log(torch.exp(q @ k / TAU) / (torch.exp(q @ k / TAU) + negatives)))
    expected = sum(losses) / 3
    torch.testing.assert_close(output["loss"], expected)
    gradient = torch.autograd.grad(output["loss"], rows)[0]
    torch.testing.assert_close(gradient, torch.autograd.grad(expected, rows)[0])
    assert (gradient[[4, 9, 1]] == 0).all() and (gradient[[3, 8, 0]].abs().sum(1) > 0).all()
    assert not any(p.requires_grad for p in objective.key.parameters())


def test_the_queue_holds_the_last_keys_and_wraps_around():
    objective = build()
    written = [torch.randn(b, D, dtype=torch.float64) for b in (4, 4, 4, 5, 9)]
    history = list(objective.queue.clone())
    for keys in written:
        objective.end_step(torch.arange(len(keys)), {"key": keys})
        history += list(keys)
        assert {tuple(row.tolist()) for row in objective.queue} == {tuple(row.tolist()) for row in history[-K:]}


def test_the_key_encoder_is_a_moving_average_of_the_encoder_after_the_step():
    objective = build()
    start = objective.key.encoder.rows.clone()
    with torch.no_grad():
        objective.encoder.rows += 1
    objective.end_step(torch.arange(2), {"key": torch.randn(2, D)})
    torch.testing.assert_close(objective.key.encoder.rows, 0.9 * start + 0.1 * (start + 1))


def test_the_moving_average_equals_lightly():
    lightly = pytest.importorskip("lightly.models.utils", reason="lightly is not installed")
    encoder, head = build_encoder(ENCODER, 16), build_head({"kind": "mlp", "dimensions": 8}, 32)
    ours = MomentumCopy(build_encoder(ENCODER, 16), build_head({"kind": "mlp", "dimensions": 8}, 32), 0.7)
    theirs = MomentumCopy(ours.encoder, ours.head, 0.7)
    ours.follow(encoder, head)
    lightly.update_momentum(encoder, theirs.encoder, 0.7)
    lightly.update_momentum(head, theirs.head, 0.7)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_grouped_batch_norm_equals_torchs_on_each_group_and_has_its_state():
    norm = nn.BatchNorm2d(3).double()
    nn.init.normal_(norm.weight)
    parts = [nn.BatchNorm2d(3).double() for _ in range(4)]
    grouped = GroupedBatchNorm(norm, 2)
    assert grouped.state_dict().keys() == norm.state_dict().keys()
    maps = torch.randn(8, 3, 5, 5, dtype=torch.float64)
    for layout in (torch.contiguous_format, torch.channels_last):
        result = grouped(maps.to(memory_format=layout))
        for number, part in enumerate(parts):
            part.weight, part.bias = norm.weight, norm.bias
            torch.testing.assert_close(result[number::4], part(maps[number::4]))
    torch.testing.assert_close(grouped.running_mean, sum(part.running_mean for part in parts) / 4)
    torch.testing.assert_close(grouped.running_var, sum(part.running_var for part in parts) / 4)
    assert grouped.num_batches_tracked == 2
    grouped.eval()
    norm.load_state_dict(grouped.state_dict())
    torch.testing.assert_close(grouped(maps), norm.eval()(maps))
    with pytest.raises(UserError, match="norm_group must divide the 7 images"):
        grouped.train()(maps[:7])


def network(group: int) -> Objective:
    encoder = build_encoder(ENCODER, 16)
    return Objective(
        Config(num_keys=16, norm_group=group), encoder, build_head({"kind": "linear", "dimensions": 8}, 32), 99, seed=1
    )


def test_keys_come_back_in_order_and_their_groups_change_with_the_epoch():
    objective, views = network(4), torch.randn(16, 3, 16, 16)
    index = torch.arange(16) + 20
    keys = {epoch: objective.embeddings([views, views], index, epoch)[1] for epoch in (1, 2)}
    assert not torch.allclose(keys[1], keys[2], atol=1e-4)
    torch.testing.assert_close(keys[1], objective.embeddings([views, views], index, 1)[1])
    objective.eval()  # no batch statistics: the order cannot matter
    _, key = objective.embeddings([views, views], index, 1)
    torch.testing.assert_close(key, objective.key(views), rtol=1e-4, atol=1e-5)


def test_without_groups_the_keys_have_the_statistics_of_the_whole_batch():
    objective, views = network(0), torch.randn(16, 3, 16, 16)
    query, key = objective.embeddings([views, views], torch.arange(16), 1)
    torch.testing.assert_close(query, key)
