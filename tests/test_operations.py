"""The operations of a step, counted without numbers, against those of its parts."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.plumbing.config import plugin_options, structured
from invp.plumbing.experiments import load
from invp.plumbing.files import canonical_json
from invp.plumbing.plugins import constants, plugin_names
from invp.plumbing.sections import Encoder
from invp.steps import pretrain
from invp.tools import _estimates, _operations
from invp.tools._operations import operations_of
from tests.conftest import ROOT

N, D = 1437, 32


def section(objective: str, **options) -> dict:
    loaded = load(ROOT / "config" / "experiments" / "digits-invp.yaml")
    loaded["objective"] = plugin_options("objectives", {"name": objective, **options}, "test")
    kind = constants("objectives", objective).get("INPUT", "rgb")
    loaded["encoder"] |= {"width": 16, "input": kind, "norm": "group" if objective == "cpc" else "batch"}
    if objective == "mae":
        loaded["encoder"] = structured(Encoder, {"name": "vit_tiny", "patch": 4, "depth": 2}, "test")
    loaded["augmentation"]["size"] = 24
    loaded["head"] = {"kind": "mlp" if constants("objectives", objective).get("HEAD", True) else "none", "dimensions": D}
    return {**pretrain.section({"loaded": {"one": loaded}}, experiment="one", seed=0, stage=2), "graph_stages": []}


def forward(options: dict, head: bool = True) -> int:
    """Operations of one image through encoder and head."""
    encoder = build_encoder(options["encoder"], 24)
    network = torch.nn.Sequential(encoder, build_head(options["head"], encoder.num_features)) if head else encoder
    with FlopCounterMode(display=False) as counted:
        network.eval()(torch.zeros(1, 3, 24, 24))
    return counted.get_total_flops()


@pytest.mark.parametrize("name", plugin_names("objectives"))
def test_every_objective_can_be_counted(name):
    assert operations_of(canonical_json(section(name)), N) > 0


def test_a_backward_pass_takes_twice_its_forward_pass_and_a_memory_its_products():
    one, two = section("simclr"), section("invp", num_negatives=0, weight=0.0)
    batch = one["training"]["batch_size"]
    views = 2 * forward(one) * 3
    pairs = operations_of(canonical_json(one), N) - views  # of the similarities of 2B views, forward and backward
    assert 0 < pairs <= 3 * 2 * 2 * (2 * batch) * D * 1.5
    # InvP has one view, and N similarities and N weighted rows an image, neither of them with a backward pass.
    assert operations_of(canonical_json(two), N) == pytest.approx(3 * forward(two) + 2 * 2 * N * D)
    momentum = section("moco", num_keys=512)
    both = (3 + 1) * forward(momentum)  # the keys' network is not trained
    assert both < operations_of(canonical_json(momentum), N) < 1.1 * both + 3 * 4 * 512 * D


def test_copies_and_patches_are_counted():
    turned, plain = section("rotation"), section("simclr")
    plain["head"] = {"kind": "none", "dimensions": D}
    assert operations_of(canonical_json(turned), N) == pytest.approx(4 * 3 * forward(turned, head=False), rel=0.02)
    patches = section("cpc", patch_size=12, stride=6, farthest=2)
    alone = build_encoder(patches["encoder"], 12)
    with FlopCounterMode(display=False) as counted:
        alone.eval()(torch.zeros(1, 3, 12, 12))
    assert operations_of(canonical_json(patches), N) > 9 * 3 * counted.get_total_flops()  # three by three of them


def test_a_step_that_needs_numbers_is_estimated_by_its_views(monkeypatch):
    from invp.objectives import rotation

    def asks(self, views, index, epoch):
        return {"loss": float(views[0].sum())}

    monkeypatch.setattr(rotation.Objective, "forward", asks)
    monkeypatch.setattr(_operations, "_of_memory", _operations._of_memory.__wrapped__)  # which remembers none of the tests before
    assert _estimates._of_a_step(section("rotation"), N) == 0
