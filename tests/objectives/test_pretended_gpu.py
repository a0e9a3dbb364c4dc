"""On a pretended GPU, at ImageNet's size: no step of an objective waits for the device, to take data back or to send it there.

torch sends what is not said to be `non_blocking` behind all that the device has yet to do, and waits for it. torch's FakeTensorMode has the shapes and devices of tensors and no data. It runs operations on `cuda` tensors on any machine and raises
where a number would have to be known. Autograd's backward asks for a real device, so it is left out.
"""

import traceback

import pytest
import torch
from test_contract import OBJECTIVES, D
from test_pretrain import SMALL, small_encoder
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from invp.data.augment import Augment
from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.plumbing.config import instance, plugin_options
from invp.plumbing.plugins import constants, load_plugin
from invp.plumbing.sections import Augmentation
from invp.tools._operations import pretended

N, B, SIZE = 1_281_167, 64, 32
CUDA = torch.device("cuda", 0)
# Every way that InvP's positives, background, search and graph can be asked for.
INVP = [
    {"positives": "easy"}, {"positives": "knn"}, {"union": False}, {"background": "exact"}, {"background": "official"},
    {"search": "fp16"}, {"graph": "epoch"}, {"graph": "stage"}, {"num_negatives": 0}, {"weight": 0.0}, {"ramp": "gaussian"},
]  # fmt: skip
CASES = [(name, {}) for name in OBJECTIVES] + [("invp", options) for options in INVP] + [
    ("instance_discrimination", {"loss": loss}) for loss in ("full", "infonce", "nce")
] + [("dino", {"patch_weight": 0.0}), ("dino", {"centring": "sinkhorn", "learned_gain": True})]  # fmt: skip
KORNIAS = {"kornia"}  # its conversions to Lab and its blur send constants of their own in every call


class Waits(AssertionError):
    """A tensor was copied between the host and the device, and the host waits."""


class WithoutWaiting(TorchDispatchMode):
    """Raises where a tensor goes to the device, or comes from there, while the host waits for it; or at all, if `sending` is False."""

    def __init__(self, sending: bool = True):
        super().__init__()
        self.sending = sending

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        devices = {t.device.type for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor) and t.ndim}
        if func is torch.ops.aten._to_copy.default:
            devices.add(torch.device(kwargs.get("device") or args[0].device).type)
            waits = len(devices) > 1 and not (self.sending and kwargs.get("non_blocking"))
        elif func is torch.ops.aten.copy_.default:
            waits = len(devices) > 1 and not (self.sending and (args[2:] or [kwargs.get("non_blocking")])[0])
        else:
            waits = len(devices) > 1
        if waits and not any(f"/{name}/" in frame.filename for frame in traceback.extract_stack() for name in KORNIAS):
            raise Waits(f"{func} waits for the device")
        return func(*args, **kwargs)


HOST = (DataDependentOutputException, DynamicOutputShapeException)


@pytest.fixture(scope="module")
def mode():
    return FakeTensorMode(allow_non_fake_inputs=True)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_a_step_waits_for_no_number(name, options, mode):
    torch.manual_seed(0)
    encoder = build_encoder(small_encoder(name), SIZE)
    kind = "mlp" if constants("objectives", name).get("HEAD", True) else "none"
    head = build_head({"kind": kind, "dimensions": D}, encoder.num_features)
    module = load_plugin("objectives", name)
    values = {key: value for key, value in SMALL.get(name, {}).items() if not key.startswith("num_")}
    config = instance(module.Config, plugin_options("objectives", {"name": name, **values, **options}, "test"))
    objective = pretended(module.Objective(config, encoder, head, N, seed=0), mode)
    recorded = hasattr(module, "steady")  # as a CUDA graph, in which nothing is sent
    with mode, WithoutWaiting(sending=not recorded), torch.no_grad():
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
        with WithoutWaiting():
            numbers = torch.arange(3)
            numbers.to(CUDA, non_blocking=True)
            for send in (lambda: numbers.to(CUDA), lambda: value.new_tensor([1.0]), lambda: value[numbers], lambda: value.cpu()):
                with pytest.raises(Waits):
                    send()


def test_augmentation_waits_for_no_number(mode):
    """Without blur: kornia looks at sigma, which lies on the CPU, and this mode pretends that nobody knows that either."""
    options = Augmentation(size=SIZE, flip=True, jitter=[0.4, 0.4, 0.4, 0.1], jitter_probability=0.8, grayscale=0.2, solarize=0.2)
    augment = Augment(options)
    draws = augment.drawn((0, 1, 2, 0), slice(0, B), B, 40, 40)  # on the CPU, of real numbers
    with mode, WithoutWaiting(), torch.no_grad():
        images = torch.empty(B, 3, 40, 40, dtype=torch.uint8, device=CUDA)
        assert augment.applied(images, draws).device == CUDA
