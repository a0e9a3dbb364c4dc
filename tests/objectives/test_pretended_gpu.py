"""On a pretended GPU, at ImageNet's size: no step of an objective takes data back to the host, where a real one would wait for it.

torch's FakeTensorMode has the shapes and devices of tensors and no data. It runs operations on `cuda` tensors on any machine and raises
where a number would have to be known. Autograd's backward asks for a real device, so it is left out.
"""

import pytest
import torch
from test_contract import OBJECTIVES, D
from test_pretrain import SMALL, encoder_input
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode

from invp.data.augment import Augment
from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.plumbing.config import instance, plugin_options
from invp.plumbing.plugins import constants, load_plugin
from invp.plumbing.sections import Augmentation

N, B, SIZE = 1_281_167, 64, 32
CUDA = torch.device("cuda", 0)
ENCODER = {"name": "resnet_small", "stem": "auto", "width": 8, "blocks": 1, "norm": "batch", "zero_init_residual": False}
# Every way that InvP's positives, background, search and graph can be asked for.
INVP = [
    {"positives": "easy"}, {"positives": "knn"}, {"union": False}, {"background": "exact"}, {"background": "official"},
    {"search": "fp16"}, {"graph": "epoch"}, {"graph": "stage"}, {"num_negatives": 0}, {"weight": 0.0}, {"ramp": "gaussian"},
]  # fmt: skip
CASES = [(name, {}) for name in OBJECTIVES] + [("invp", options) for options in INVP] + [
    ("instance_discrimination", {"loss": loss}) for loss in ("full", "infonce", "nce")
]  # fmt: skip
HOST = (DataDependentOutputException, DynamicOutputShapeException)


def pretended(module: torch.nn.Module, mode: FakeTensorMode) -> torch.nn.Module:
    """The module with empty tensors on the pretended device in place of its own."""
    for owner in module.modules():
        for name, value in list(owner._parameters.items()):
            if value is not None:
                with mode:
                    owner._parameters[name] = torch.nn.Parameter(torch.empty(value.shape, dtype=value.dtype, device=CUDA), False)
        for name, value in list(owner._buffers.items()):
            if value is not None:
                with mode:
                    owner._buffers[name] = torch.empty(value.shape, dtype=value.dtype, device=CUDA)
    return module


@pytest.fixture(scope="module")
def mode():
    return FakeTensorMode(allow_non_fake_inputs=True)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_step_waits_for_no_number(name, options, mode):
    torch.manual_seed(0)
    encoder = build_encoder(ENCODER | encoder_input(name), SIZE)
    kind = "mlp" if constants("objectives", name).get("HEAD", True) else "none"
    head = build_head({"kind": kind, "dimensions": D}, encoder.num_features)
    module = load_plugin("objectives", name)
    values = {key: value for key, value in SMALL.get(name, {}).items() if not key.startswith("num_")}
    config = instance(module.Config, plugin_options("objectives", {"name": name, **values, **options}, "test"))
    objective = pretended(module.Objective(config, encoder, head, N, seed=0), mode)
    with mode, torch.no_grad():
        views = [torch.empty(B, 3, SIZE, SIZE, device=CUDA) for _ in range(objective.views)]
        index = torch.empty(B, dtype=torch.long, device=CUDA)
        for epoch in (1, 300):
            output = objective(views, index, epoch)
            assert output["loss"].device == CUDA and all(rows.device == CUDA for rows in output["memory"].values())
            objective.end_step(index, output["memory"])


def test_what_would_wait_is_found(mode):
    """The test of the test: each of these stops a GPU."""
    with mode:
        value = torch.empty(8, device=CUDA)
        for look in (lambda: value.sum().item(), lambda: bool(value[0] > 0), lambda: value.tolist(), lambda: float(value.mean())):
            with pytest.raises(HOST):
                look()


def test_augmentation_waits_for_no_number(mode):
    """Without blur: kornia looks at sigma, which lies on the CPU, and this mode pretends that nobody knows that either."""
    options = Augmentation(size=SIZE, flip=True, jitter=[0.4, 0.4, 0.4, 0.1], jitter_probability=0.8, grayscale=0.2)
    augment = Augment(options)
    draws = augment.drawn((0, 1, 2, 0), slice(0, B), B, 40, 40)  # on the CPU, of real numbers
    with mode, torch.no_grad():
        images = torch.empty(B, 3, 40, 40, dtype=torch.uint8, device=CUDA)
        assert augment.applied(images, draws).device == CUDA
