"""The equations of reference.py on a bank of six rows, by hand; and what it says of the fast code."""

import ast
import importlib
import inspect
import math
import re
from pathlib import Path

import pytest
import torch

from invp.core import reference

PACKAGE = Path(reference.__file__).resolve().parents[1]
DEGREES = [0, 10, 35, 65, 100, 150]  # the rows of the bank are directions in the plane, and a similarity is a cosine
BANK = torch.tensor([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in DEGREES], dtype=torch.float64)
TWO_NEAREST = [[1, 2], [0, 2], [1, 3], [2, 4], [3, 5], [4, 3]]
TAU = 0.5
E = [math.exp(math.cos(math.radians(d)) / TAU) for d in DEGREES]  # exp(s / tau) of image 0


def test_neighbours_are_nearest_first_and_the_image_is_not_its_own():
    s = reference.similarities(BANK[3], BANK)
    assert reference.nearest(s, 4) == [3, 2, 4, 1]
    assert reference.neighbours(s, 3, 2) == [2, 4]
    assert reference.neighbours(s, 3, 9) == [2, 4, 1, 0, 5]
    assert reference.knn_graph(BANK, 2) == TWO_NEAREST


def test_of_equal_similarities_the_lowest_number_comes_first():
    s = torch.tensor([0.5, 1.0, 0.5, 1.0, 0.5])
    assert reference.nearest(s, 4) == [1, 3, 0, 2]
    assert reference.hard_positives(s, {4, 3, 2, 1}, 3) == [2, 4, 1]


def test_positives_are_all_within_a_number_of_steps():
    sets = [reference.positives(TWO_NEAREST, 0, steps) for steps in (1, 2, 3, 4)]
    assert sets == [{1, 2}, {1, 2, 3}, {1, 2, 3, 4}, {1, 2, 3, 4, 5}]
    assert reference.positives([[1], [], []], 0, 3) == {1} and reference.positives([[], [0]], 0, 3) == set()


def test_hard_positives_are_the_least_similar_and_hard_negatives_the_nearest_others():
    s = reference.similarities(BANK[0], BANK)
    assert reference.hard_positives(s, {1, 2, 3}, 2) == [3, 2]
    assert reference.hard_positives(s, {1, 2}, 50) == [2, 1]
    assert reference.hard_negatives(s, {1, 2, 3}, 5) == {0, 4}
    assert reference.hard_negatives(s, {1, 2, 3}, 1) == {0}


def test_the_loss_of_one_image():
    instance = -math.log(E[0] / (E[0] + E[1] + E[2] + E[3] + E[4]))
    invariance = -math.log((E[3] + E[2]) / (E[0] + E[4] + E[3] + E[2]))
    s = reference.similarities(BANK[0], BANK)
    torch.testing.assert_close(reference.probabilities(s, TAU), torch.tensor(E).double() / sum(E), rtol=1e-6, atol=0)
    assert reference.set_probability([1, 4], s, TAU).item() == pytest.approx((E[1] + E[4]) / sum(E), rel=1e-12)
    assert reference.instance_loss(s, 0, [0, 1, 2, 3, 4], TAU).item() == pytest.approx(instance, rel=1e-12)
    assert reference.invariance_loss(s, [3, 2], [0, 4, 3, 2], TAU).item() == pytest.approx(invariance, rel=1e-12)
    assert reference.invariance_loss(s, [], [0], TAU).item() == 0
    constants = reference.Constants(tau=TAU, steps=2, P=2, M=5, weight=0.6, T=30)
    for epoch, expected in ((1, instance), (30, instance), (31, instance + 0.6 * invariance)):
        one = reference.loss(BANK[:1], [0], BANK, TWO_NEAREST, epoch, constants)
        two = reference.loss(BANK[[0, 0]], [0, 0], BANK, TWO_NEAREST, epoch, constants)
        assert one.item() == pytest.approx(expected, rel=1e-12) and two.item() == pytest.approx(2 * expected, rel=1e-12)


def test_the_gradient_of_the_instance_loss_is_the_published_formula():
    v = torch.tensor([0.8, 0.6], dtype=torch.float64, requires_grad=True)
    near = [2, 1, 3]
    (gradient,) = torch.autograd.grad(reference.instance_loss(reference.similarities(v, BANK), 5, near, TAU), v)
    p = torch.softmax(BANK[near] @ v.detach() / TAU, 0)
    torch.testing.assert_close(gradient, (p @ BANK[near] - BANK[5]) / TAU, rtol=1e-12, atol=1e-12)


def test_the_bank_moves_towards_the_last_feature_of_an_image():
    V = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    after = reference.updated_bank(BANK, [0, 0], V, 0.5)
    torch.testing.assert_close(after[0], torch.tensor([1.0, 1.0], dtype=torch.float64) / math.sqrt(2))
    assert torch.equal(after[1:], BANK[1:]) and BANK[0].tolist() == [1, 0]
    torch.testing.assert_close(reference.updated_bank(BANK, [0], V[1:], 0.8)[0], torch.tensor([0.8, 0.2]).double() / 0.68**0.5)


FUNCTIONS = [f for _, f in inspect.getmembers(reference, inspect.isfunction) if f.__module__ == reference.__name__]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda f: f.__name__)
def test_the_fast_function_that_a_docstring_names_exists(function):
    names = re.findall(r"`(invp\.[\w.]+)`", function.__doc__.split("Fast: ")[1])
    assert names
    for name in names:
        module, _, attribute = name.rpartition(".")
        if not hasattr(importlib.import_module(module), attribute):
            importlib.import_module(name)


def test_no_module_of_the_package_imports_it():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
                assert "invp.core.reference" not in names, path
