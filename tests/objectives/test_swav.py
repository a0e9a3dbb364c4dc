"""SwAV: balanced codes, its loss and gradients against loops and lightly, frozen prototypes, the queue, and views of two sizes."""

import math
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from rivals import Given, images
from torch import nn

from invp.core.codes import sinkhorn, swapped_prediction
from invp.objectives.swav import Config, Objective
from invp.plumbing.errors import UserError

N, D, K, TAU, EPSILON = 16, 5, 6, 0.3, 0.2


def build(**options) -> Objective:
    given = {"num_prototypes": K, "temperature": TAU, "epsilon": EPSILON, "frozen_epochs": 0, **options}
    return Objective(Config(**given), Given(N, D), nn.Identity(), N, seed=3).double()


def scores(rows: int = 8, seed: int = 0) -> torch.Tensor:
    return 2 * torch.rand(rows, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def slow_codes(given: torch.Tensor, rounds: int = 3) -> torch.Tensor:
    """As the paper has it: Q = Diag(u) exp(scores / epsilon) Diag(v), by loops."""
    codes = [[math.exp(score / EPSILON) for score in row] for row in given.tolist()]
    for _ in range(rounds):
        for k in range(K):
            total = sum(row[k] for row in codes)
            for row in codes:
                row[k] /= K * total
        for row in codes:
            total = sum(row)
            row[:] = [value / len(codes) / total for value in row]
    return len(codes) * torch.tensor(codes, dtype=torch.float64)


@pytest.mark.parametrize("rounds", [1, 3])
def test_codes_equal_loops_and_lightly(rounds):
    codes = sinkhorn(scores(), EPSILON, rounds)
    torch.testing.assert_close(codes, slow_codes(scores(), rounds))
    swav_loss = pytest.importorskip("lightly.loss.swav_loss", reason="lightly is not installed")
    torch.testing.assert_close(codes, swav_loss.sinkhorn(scores(), rounds, EPSILON))


def test_codes_are_doubly_stochastic_after_many_rounds_and_rows_at_once():
    for given in (scores(), scores(64), torch.ones(8, K, dtype=torch.float64)):
        torch.testing.assert_close(sinkhorn(given, EPSILON, 1).sum(1), torch.ones(len(given), dtype=torch.float64))
        codes = sinkhorn(given.float(), EPSILON, 100)
        torch.testing.assert_close(codes.sum(1), torch.ones(len(given)), rtol=0, atol=1e-3)
        torch.testing.assert_close(codes.sum(0), torch.full((K,), len(given) / K), rtol=1e-3, atol=0)
    assert (sinkhorn(scores(), EPSILON, 3).sum(0) * K / 8 - 1).abs().max() > 1e-3  # the test of the test: three rounds are fewer


def test_a_small_epsilon_gives_nearly_one_prototype_an_image_and_no_overflow():
    codes = sinkhorn(torch.eye(K) * 2 - 1, 1e-4, 3)  # exp(1 / 1e-4) has no float
    torch.testing.assert_close(codes, torch.eye(K))


def slow_loss(objective: Objective, views: list[list[int]], queue: list[torch.Tensor] | None = None) -> torch.Tensor:
    rows = objective.encoder.rows
    units = [[rows[number] / rows[number].norm() for number in view] for view in views]
    total, count = 0.0, 0
    for coded in range(2):
        with torch.no_grad():
            known = units[coded] + (list(queue[coded]) if queue else [])
            codes = slow_codes(torch.stack([torch.stack([row @ c for c in objective.prototypes]) for row in known]))
        for other in range(len(views)):
            if other != coded:
                for image in range(len(views[0])):
                    logits = [units[other][image] @ c / TAU for c in objective.prototypes]
                    log_sum = torch.log(sum(torch.exp(logit) for logit in logits))
                    total = total - sum(q * (logit - log_sum) for q, logit in zip(codes[image], logits, strict=True))
                    count += 1
    return total / count


VIEWS = [[3, 8, 0], [4, 9, 1], [5, 10, 2], [6, 11, 7]]


@pytest.mark.parametrize("num_small", [0, 2])
@pytest.mark.parametrize("queued", [False, True])
def test_value_and_gradients_equal_loops(num_small, queued):
    objective = build(num_small=num_small, queue_length=4 * queued, queue_after=1)
    queue = [nn.functional.normalize(scores(4, seed)[:, :D], dim=1) for seed in (1, 2)]
    if queued:
        objective.queue.copy_(torch.stack(queue))
    views = VIEWS[: 2 + num_small]
    output = objective([images(*view) for view in views], torch.tensor(VIEWS[0]), 2)
    expected = slow_loss(objective, views, queue if queued else None)
    torch.testing.assert_close(output["loss"], expected)
    wanted = [objective.encoder.rows, objective.prototypes]
    ours, theirs = torch.autograd.grad(output["loss"], wanted), torch.autograd.grad(expected, wanted)
    torch.testing.assert_close(ours, theirs)
    assert (ours[0][sum(views, [])].abs().sum(1) > 0).all() and (ours[1].abs().sum(1) > 0).all()
    if queued:  # which counts from the epoch after queue_after on
        before = objective([images(*view) for view in views], torch.tensor(VIEWS[0]), 1)["loss"]
        torch.testing.assert_close(before, slow_loss(objective, views))
        assert abs(before - expected) > 1e-4


@pytest.mark.parametrize("num_small", [0, 2])
def test_loss_and_gradient_equal_lightlys(num_small):
    losses = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    outputs = torch.stack([scores(seed=seed) for seed in range(2 + num_small)]).requires_grad_()
    codes = torch.stack([sinkhorn(each, EPSILON, 3) for each in outputs[:2].detach()])
    ours = swapped_prediction(outputs, codes, TAU)
    theirs = losses.SwaVLoss(temperature=TAU, sinkhorn_epsilon=EPSILON)(list(outputs[:2]), list(outputs[2:])).squeeze()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(loss, outputs)[0] for loss in (ours, theirs)))


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_prototypes_stay_for_the_frozen_epochs_and_have_unit_length_after_each_step(optimizer):
    objective = build(frozen_epochs=1)
    options = {"momentum": 0.9} if optimizer is torch.optim.SGD else {}
    steps = optimizer(objective.parameters(), lr=0.1, weight_decay=0.1, **options)
    start = objective.prototypes.detach().clone()
    torch.testing.assert_close(start.norm(dim=1), torch.ones(K).double())
    for epoch, kept in ((1, True), (1, True), (2, False)):
        output = objective([images(*view) for view in VIEWS[:2]], torch.tensor(VIEWS[0]), epoch)
        steps.zero_grad()
        output["loss"].backward()
        assert bool((objective.prototypes.grad == 0).all()) == kept and objective.encoder.rows.grad.abs().max() > 0
        steps.step()
        assert not torch.allclose(objective.prototypes.norm(dim=1), torch.ones(K).double())  # decayed, or moved
        objective.end_step(torch.tensor(VIEWS[0]), output["memory"])
        torch.testing.assert_close(objective.prototypes.norm(dim=1), torch.ones(K).double())
        assert torch.allclose(objective.prototypes, start, atol=1e-12) == kept


def test_the_queue_has_the_last_embeddings_of_both_large_views():
    objective = build(queue_length=4, queue_after=1, num_small=1)
    units = nn.functional.normalize(objective.encoder.rows.detach(), dim=1)
    for first in (0, 3, 6):
        views = [torch.arange(first + shift, first + shift + 3)[:, None] for shift in (0, 2, 4)]
        objective.end_step(views[0], objective(views, views[0][:, 0], 1)["memory"])
    for queue, last in zip(objective.queue, ([8, 5, 6, 7], [10, 7, 8, 9]), strict=True):
        torch.testing.assert_close(queue, units[last])
    whole = {"feature": units[:10], "second": units[2:12]}  # a batch longer than the queue
    objective.end_step(torch.arange(10), whole)
    assert {tuple(row) for row in objective.queue[0].tolist()} == {tuple(row) for row in units[6:10].tolist()}


def test_the_encoder_runs_once_for_each_size():
    class Shapes(nn.Module):
        num_features = D

        def __init__(self):
            super().__init__()
            self.seen, self.weight = [], nn.Parameter(torch.randn(3, D))

        def forward(self, pictures):
            self.seen.append(tuple(pictures.shape))
            return pictures.mean((2, 3)) @ self.weight

    encoder = Shapes()
    objective = Objective(Config(num_prototypes=K, num_small=3), encoder, nn.Identity(), N, seed=3)
    assert objective.views == 5
    views = [torch.randn(4, 3, size, size) for size in (8, 8, 6, 6, 6)]
    whole = objective(views, torch.arange(4), 2)["loss"]
    assert encoder.seen == [(8, 3, 8, 8), (12, 3, 6, 6)]
    features = nn.functional.normalize(torch.stack([view.mean((2, 3)) @ encoder.weight for view in views]), dim=2)
    outputs = features @ objective.prototypes.T
    codes = torch.stack([sinkhorn(each, 0.05, 3) for each in outputs[:2]])
    torch.testing.assert_close(whole, swapped_prediction(outputs, codes, 0.1))


def test_guessing_costs_log_k():
    objective = build()
    with torch.no_grad():
        objective.encoder.rows.zero_()
    output = objective([images(*view) for view in VIEWS[:2]], torch.tensor(VIEWS[0]), 1)
    torch.testing.assert_close(output["loss"], output["metrics"]["uniform_loss"])
    assert output["metrics"]["uniform_loss"].item() == pytest.approx(math.log(K))


def test_a_queue_that_would_not_be_full_when_it_is_used_is_refused():
    assert build(queue_length=16, queue_after=2).queue.shape == (2, 16, D)
    with pytest.raises(
        UserError, match=r"queue_length must be at most 16, what half the images fill in queue_after epochs, and is 17"
    ):
        build(queue_length=17, queue_after=2)


def results(rank: int, world_size: int) -> dict:
    mine = slice(rank * 4 // world_size, (rank + 1) * 4 // world_size)
    objective = build(num_small=1, queue_length=4, queue_after=1)
    objective.queue.copy_(nn.functional.normalize(scores(8)[:, :D], dim=1).view(2, 4, D))
    views = [images(*numbers)[mine] for numbers in ((3, 8, 0, 5), (4, 9, 1, 6), (7, 10, 2, 11))]
    output = objective(views, torch.tensor([3, 8, 0, 5])[mine], 2)
    output["loss"].backward()
    return {"rows": objective.encoder.rows.grad, "prototypes": objective.prototypes.grad}


def share(rank: int, world_size: int, port: int, folder: str) -> None:
    """One process of two: the gradients from half the batch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world_size)
    torch.save(results(rank, world_size), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_two_processes_have_the_gradients_of_one(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    multiprocessing.spawn(share, (2, port, str(tmp_path)), nprocs=2)
    one, halves = results(0, 1), [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)]
    for name, gradient in one.items():  # DDP takes the mean of the gradients of processes
        torch.testing.assert_close((halves[0][name] + halves[1][name]) / 2, gradient)
