"""Loss and gradient of a whole batch against invp.core.reference, in float64, over random sizes."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from invp.core import reference
from invp.core.batch_loss import LossOptions, Nearest, batch_loss
from invp.core.neighbours import ABSENT, similarities, top_k
from invp.core.propagation import Positives, discover


def expected_losses(s: Tensor, i: int, graph: list[list[int]], steps: int, num_near: int, options: LossOptions) -> tuple:
    """L_ins and L_inv of one anchor from its similarities s (N) by the reference, with the variants of the options."""
    tau = options.temperature
    near, N_i = reference.nearest(s, num_near), reference.positives(graph, i, steps)
    # The most similar are those of lowest negative similarity.
    N_h = reference.hard_positives(s if options.hardest else -s, N_i, options.num_positives)
    instance = reference.instance_loss(s, i, near, tau)
    if options.background == "exact":
        background = reference.hard_negatives(s, N_i, num_near) | set(N_h)
        invariance = reference.invariance_loss(s, N_h, background, tau)
    elif options.background == "approximate":
        invariance = reference.invariance_loss(s, N_h, near, tau)
    else:
        below = reference.set_probability(near, s, tau) - reference.set_probability([i], s, tau)
        invariance = -torch.log(reference.set_probability(N_h, s, tau) / below)
    if options.eps:
        instance, invariance = (-torch.log(torch.exp(-loss) + options.eps) for loss in (instance, invariance))
    return instance, invariance if N_h else torch.zeros_like(instance)


@st.composite
def problems(draw):
    """A random bank, graph and batch, with what makes mistakes likely."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    num_rows = draw(st.integers(3, 30))
    k = min(draw(st.integers(1, 4)), num_rows)
    bank = torch.randn(num_rows, 4, dtype=torch.float64, generator=generator)
    bank = bank / bank.norm(dim=1, keepdim=True)
    index = torch.randint(0, num_rows, (draw(st.integers(1, 4)),), generator=generator)
    kind = draw(st.sampled_from(["plain", "repeated", "ties", "far"]))
    if kind == "repeated":
        index[:] = index[0]
    feature = torch.randn(len(index), 4, dtype=torch.float64, generator=generator)
    feature = feature / feature.norm(dim=1, keepdim=True)
    if kind == "far":  # no anchor in its own top M
        feature = -bank[index]
    if kind == "ties":  # equal rows, whose products are exact
        bank = torch.randint(-2, 3, bank.shape, generator=generator).double()[torch.arange(num_rows) // 2] / 4
        feature = torch.randint(-2, 3, feature.shape, generator=generator).double() / 4
    table = torch.randint(0, num_rows, (num_rows, k), generator=generator)
    if draw(st.booleans()):  # two components
        table = table - (table - torch.arange(num_rows)[:, None]) % 2
        table = table.clamp(min=0)
    if draw(st.booleans()):
        table = table.masked_fill(torch.rand(table.shape, generator=generator) < 0.5, ABSENT)
    return bank, table, index, feature


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    problem=problems(),
    steps=st.integers(1, 3),
    num_near=st.integers(2, 40),
    num_positives=st.integers(1, 12),
    hardest=st.booleans(),
    background=st.sampled_from(["exact", "approximate", "official"]),
    eps=st.sampled_from([0.0, 1e-7, 1e-2]),
    weight=st.sampled_from([0.0, 0.6]),
)
def test_equals_the_reference(problem, steps, num_near, num_positives, hardest, background, eps, weight):
    bank, table, index, feature = problem
    options = LossOptions(0.4, weight, num_positives, hardest, background, eps)
    if num_near >= len(bank):
        near = Nearest(similarities(feature, bank), None)
    else:
        near = Nearest(*top_k(feature, bank, num_near))
    losses = batch_loss(feature, bank, index, near, discover(table, index, steps), options)
    graph = [[j for j in row if j != ABSENT] for row in table.tolist()]
    for row, i in enumerate(index.tolist()):
        v = feature[row].clone().requires_grad_()
        s = reference.similarities(v, bank)
        instance, invariance = expected_losses(s, i, graph, steps, num_near, options)
        assert losses.instance[row].item() == pytest.approx(instance.item(), abs=1e-9)
        assert losses.invariance[row].item() == pytest.approx(invariance.item(), abs=1e-9)
        (gradient,) = torch.autograd.grad(instance + weight * invariance, v)
        torch.testing.assert_close(losses.gradient[row], gradient, rtol=1e-8, atol=1e-9)
    if hardest and background == "exact" and eps == 0:
        constants = reference.Constants(0.4, table.shape[1], steps, num_positives, num_near, weight, T=0)
        V = feature.clone().requires_grad_()
        total = reference.loss(V, index.tolist(), bank, graph, 1, constants)
        assert (losses.instance + weight * losses.invariance).sum().item() == pytest.approx(total.item(), abs=1e-9)
        torch.testing.assert_close(losses.gradient, torch.autograd.grad(total, V)[0], rtol=1e-8, atol=1e-9)


def test_the_gradient_of_the_instance_loss_is_the_published_formula():
    bank = torch.nn.functional.normalize(torch.randn(50, 6).double(), dim=1)
    feature, index = torch.nn.functional.normalize(torch.randn(3, 6).double(), dim=1), torch.tensor([4, 4, 9])
    near = Nearest(*top_k(feature, bank, 11))
    gradient = batch_loss(feature, bank, index, near, None, LossOptions(0.07)).gradient
    for i in range(3):
        softmax = torch.softmax(near.similarity[i] / 0.07, 0)
        mean = sum(p * bank[j] for p, j in zip(softmax, near.index[i], strict=True))
        torch.testing.assert_close(gradient[i], (mean - bank[index[i]]) / 0.07)


@pytest.mark.parametrize("background", ["exact", "official"])
@pytest.mark.parametrize("temperature", [0.01, 0.025])
def test_a_small_temperature_keeps_what_is_far_below_the_rows_that_are_left_out(temperature, background):
    """In 32 bits exp(-2 / 0.01) is 0: the background, opposite to the one row that is left out of it, must not vanish."""
    generator = torch.Generator().manual_seed(0)
    feature = torch.nn.functional.normalize(torch.randn(1, 6, dtype=torch.float64, generator=generator), dim=1)
    others = torch.nn.functional.normalize(0.05 * torch.randn(9, 6, dtype=torch.float64, generator=generator) - feature, dim=1)
    own, positive = (-feature, feature) if background == "exact" else (feature, -feature)  # it is the positive, or the anchor's own
    bank, index = torch.cat([own, others, -feature, positive]), torch.tensor([0])
    numbers = torch.tensor([[10, 11]])
    positives = Positives(numbers, torch.ones(1, 2, dtype=torch.bool), torch.ones(1, 2, dtype=torch.int8))
    options = LossOptions(temperature, 0.6, 1, True, background)
    found = []
    for dtype in (torch.float32, torch.float64):
        near = Nearest((feature @ bank.T).to(dtype), torch.arange(12)[None])
        found.append(batch_loss(feature.to(dtype), bank.to(dtype), index, near, positives, options))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-3)


def test_all_rows_in_many_chunks_equal_all_rows_chosen():
    """The path without a search, which overwrites its similarities in chunks, against the path of chosen rows."""
    generator = torch.Generator().manual_seed(0)
    bank = torch.nn.functional.normalize(torch.randn(40000, 8, dtype=torch.float64, generator=generator), dim=1)
    feature = torch.nn.functional.normalize(torch.randn(33, 8, dtype=torch.float64, generator=generator), dim=1)
    index = torch.randint(0, 40000, (33,), generator=generator)
    numbers = torch.randint(0, 40000, (33, 20), generator=generator)
    mask = torch.rand(33, 20, generator=generator) < 0.5
    positives = Positives(numbers, mask, torch.ones_like(numbers, dtype=torch.int8))
    for background in ("exact", "approximate", "official"):
        options = LossOptions(0.1, 0.6, 7, True, background)
        similarity = feature @ bank.T
        columns = torch.arange(40000).expand(33, -1).contiguous()
        chosen = batch_loss(feature, bank, index, Nearest(similarity.clone(), columns), positives, options)
        all_rows = batch_loss(feature, bank, index, Nearest(similarity, None), positives, options)
        for one, other in zip(chosen, all_rows, strict=True):
            torch.testing.assert_close(one, other)
