"""`official_compat` against a slow, dense, literal loop of the authors' method, over 20 steps."""

import math

import pytest
import torch
from torch import nn

from invp.objectives.invp import Config, Objective

N, D, INPUTS, BATCH, STEPS = 48, 6, 10, 8, 20
K, P, M, TAU, LAMBDA, MOMENTUM, LR = 3, 9, 17, 0.2, 0.6, 0.5, 0.05


class Linear(nn.Module):
    """An encoder without batch statistics."""

    num_features = D

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(INPUTS, D, bias=False)

    def forward(self, x):
        return self.layer(x)


class Reference:
    """The authors' training as described: dense exponentials under autograd, lists and loops for everything else."""

    def __init__(self, weight, bank, num_negatives, hard, steps, ramp_epoch):
        self.weight = weight.clone().requires_grad_()
        self.velocity = torch.zeros_like(self.weight)
        self.bank = bank.clone()
        self.table = [[0] * K for _ in range(N)]  # g: the table starts at zeros
        self.num_negatives, self.hard, self.steps, self.ramp_epoch = num_negatives, hard, steps, ramp_epoch

    def step(self, images, index, epoch):
        feature = images @ self.weight.T
        feature = feature / feature.square().sum(1, keepdim=True).sqrt()
        term = torch.exp(feature @ self.bank.T / TAU)  # B x N, with gradient
        losses, rows = [], []
        for i, own in enumerate(index):
            order = sorted(range(N), key=lambda j, i=i: -term[i, j].item())
            near = order[: self.num_negatives]
            instance = -torch.log(term[i, own] / sum(term[i, j] for j in near) + 1e-7)  # e
            positives = list(self.table[own])  # b, c: concatenated, repeats and the anchor stay
            level = positives
            for _ in range(self.steps - 1):
                level = [j for node in level for j in self.table[node]]
                positives = positives + level
            positives.sort(key=lambda j, i=i: term[i, j].item(), reverse=not self.hard)  # i
            chosen = positives[:P]
            below = sum(term[i, j] for j in near) - term[i, own]  # d
            invariance = -torch.log(sum(term[i, j] for j in chosen) / below + 1e-7)
            active = LAMBDA if epoch > self.ramp_epoch else 0.0  # f
            losses.append(instance + active * invariance)
            rows.append([j for j in order[: K + 1] if j != own][:K])  # a: from the current feature
        loss = sum(losses) / len(index)
        (gradient,) = torch.autograd.grad(loss, self.weight)
        self.velocity = 0.9 * self.velocity + gradient
        with torch.no_grad():
            self.weight -= LR * self.velocity
            for i, own in enumerate(index):  # after this batch's positives were read
                self.table[own] = rows[i]
                mixed = MOMENTUM * self.bank[own] + (1 - MOMENTUM) * feature[i].detach()
                self.bank[own] = mixed / mixed.square().sum().sqrt()
        return loss.item()


@pytest.mark.parametrize(("num_negatives", "positives", "steps"), [(M, "hard", 3), (M, "easy", 2), (0, "hard", 3), (N, "hard", 1)])
@pytest.mark.parametrize("ramp_epoch", [0, 2])
def test_twenty_steps_equal_the_reference(num_negatives, positives, steps, ramp_epoch):
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(N, INPUTS, dtype=torch.float64, generator=generator)
    config = Config(
        k=K,
        steps=steps,
        num_positives=P,
        num_negatives=num_negatives,
        positives=positives,
        ramp_epoch=ramp_epoch,
        momentum=MOMENTUM,
        temperature=TAU,
        weight=LAMBDA,
        official_compat=True,
    )
    objective = Objective(config, Linear(), nn.Identity(), N, seed=1).double()
    bound = math.sqrt(3 / D)
    assert objective.bank.abs().max() < bound and (objective.table == 0).all()  # g
    weight = objective.encoder.layer.weight
    reference = Reference(weight.detach(), objective.bank, num_negatives or N, positives == "hard", steps, ramp_epoch)
    optimizer = torch.optim.SGD(objective.parameters(), lr=LR, momentum=0.9)
    embedded = []
    for step in range(STEPS):
        epoch, step_of_epoch = 1 + step // (N // BATCH), step % (N // BATCH)
        if step_of_epoch == 0:
            objective.begin_epoch(epoch, embedded.append)
            order = torch.randperm(N, generator=generator)
        index = order[step_of_epoch * BATCH : (step_of_epoch + 1) * BATCH]
        view = images[index] + 0.1 * torch.randn(BATCH, INPUTS, dtype=torch.float64, generator=generator)
        output = objective([view], index, epoch)
        optimizer.zero_grad()
        output["loss"].backward()
        optimizer.step()
        objective.end_step(index, output["memory"])
        expected = reference.step(view, index.tolist(), epoch)
        assert output["loss"].item() == pytest.approx(expected, rel=1e-9)
        torch.testing.assert_close(weight.detach(), reference.weight.detach(), rtol=1e-8, atol=1e-9)
        torch.testing.assert_close(objective.bank, reference.bank, rtol=1e-8, atol=1e-9)
        assert [sorted(row) for row in objective.table.tolist()] == [sorted(row) for row in reference.table]
    assert epoch == 4 and not embedded
