"""Loss and gradient of a whole batch against equations 3 to 7 in plain loops, in float64, over random sizes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from invp.core.batch_loss import Weighing, batch_loss
from invp.core.neighbours import ABSENT, similarities, top_k
from invp.core.propagation import Positives, discover


def literal(feature, bank, own, table, steps, num_near, weighing, sets=None):
    """One anchor's L_ins, L_inv and the sets they use, from the text of the equations. Lists and floats only.

    With `sets` those are used, and not chosen anew: the gradient of the method is that at fixed sets.
    """
    tau = weighing.temperature
    similarity = [sum(x * y for x, y in zip(feature, row, strict=True)) for row in bank]
    if sets is None:
        near = sorted(range(len(bank)), key=lambda j: (-similarity[j], j))[:num_near]
        found = {j for j in table[own] if j != ABSENT}
        for _ in range(steps - 1):
            found |= {j for node in found for j in table[node] if j != ABSENT}
        found -= {own}
        sign = 1 if weighing.hardest else -1
        hard = sorted(sorted(found), key=lambda j: sign * similarity[j])[: weighing.num_positives]
        if weighing.background == "exact":
            background = sorted((set(near) - found) | set(hard))
        elif weighing.background == "approximate":
            background = near
        else:
            background = [j for j in near if j != own]
        sets = near, hard, background, weighing.background == "official" and own not in near
    near, hard, background, subtract_own = sets
    term = [math.exp(s / tau) for s in similarity]
    instance = -math.log(term[own] / sum(term[j] for j in near) + weighing.eps)
    invariance = 0.0
    if hard:
        below = sum(term[j] for j in background) - (term[own] if subtract_own else 0)
        invariance = -math.log(sum(term[j] for j in hard) / below + weighing.eps)
    return instance, invariance, sets


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
def test_equals_the_equations(problem, steps, num_near, num_positives, hardest, background, eps, weight):
    bank, table, index, feature = problem
    if background == "official" and len(bank) < 2:
        return
    weighing = Weighing(0.4, weight, num_positives, hardest, background, eps)
    if num_near >= len(bank):
        near, near_index = similarities(feature, bank), None
    else:
        near, near_index = top_k(feature, bank, num_near)
    terms = batch_loss(feature, bank, index, near, near_index, discover(table, index, steps), weighing)
    rows, graph = bank.tolist(), table.tolist()
    for i, own in enumerate(index.tolist()):
        arguments = (rows, own, graph, steps, num_near, weighing)
        instance, invariance, sets = literal(feature[i].tolist(), *arguments)
        assert terms.instance[i].item() == pytest.approx(instance, abs=1e-9)
        assert terms.invariance[i].item() == pytest.approx(invariance, abs=1e-9)
        for d in range(4):
            losses = []
            for step in (1e-6, -1e-6):
                moved = feature[i].tolist()
                moved[d] += step
                one, two, _ = literal(moved, *arguments, sets)
                losses.append(one + weight * two)
            assert terms.gradient[i, d].item() == pytest.approx((losses[0] - losses[1]) / 2e-6, rel=1e-5, abs=1e-6)


def test_the_gradient_of_the_instance_loss_is_the_published_formula():
    bank = torch.nn.functional.normalize(torch.randn(50, 6).double(), dim=1)
    feature, index = torch.nn.functional.normalize(torch.randn(3, 6).double(), dim=1), torch.tensor([4, 4, 9])
    near, near_index = top_k(feature, bank, 11)
    gradient = batch_loss(feature, bank, index, near, near_index, None, Weighing(0.07)).gradient
    for i in range(3):
        softmax = torch.softmax(near[i] / 0.07, 0)
        mean = sum(p * bank[j] for p, j in zip(softmax, near_index[i], strict=True))
        torch.testing.assert_close(gradient[i], (mean - bank[index[i]]) / 0.07)


def test_all_rows_in_many_chunks_equal_all_rows_chosen():
    """The path without a search, which overwrites its similarities in chunks, against the path of chosen rows."""
    generator = torch.Generator().manual_seed(0)
    bank = torch.nn.functional.normalize(torch.randn(40000, 8, dtype=torch.float64, generator=generator), dim=1)
    feature = torch.nn.functional.normalize(torch.randn(33, 8, dtype=torch.float64, generator=generator), dim=1)
    index = torch.randint(0, 40000, (33,), generator=generator)
    place = torch.randint(0, 40000, (33, 20), generator=generator)
    mask = torch.rand(33, 20, generator=generator) < 0.5
    positives = Positives(place, mask, torch.ones_like(place, dtype=torch.int8))
    for background in ("exact", "approximate", "official"):
        weighing = Weighing(0.1, 0.6, 7, True, background)
        near = feature @ bank.T
        columns = torch.arange(40000).expand(33, -1).contiguous()
        chosen = batch_loss(feature, bank, index, near.clone(), columns, positives, weighing)
        every = batch_loss(feature, bank, index, near, None, positives, weighing)
        for one, other in zip(chosen, every, strict=True):
            torch.testing.assert_close(one, other)
