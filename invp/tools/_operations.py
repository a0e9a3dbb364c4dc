"""The operations of a step of a training, counted on a pretended GPU: no number is computed. N images, B batch."""

import json
from functools import cache
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from invp.plumbing.sections import view_kinds
from invp.training.objective import build_objective

CUDA = torch.device("cuda", 0)
SIZES = (100_000, 200_000)  # images of two memories, between and beyond which operations are a straight line in N
IN_PLACE = {torch.ops.aten.addmm_: torch.ops.aten.addmm}  # which torch does not count
LATE = 10_000  # an epoch after every ramp and warm-up


class Counter(TorchDispatchMode):
    """Counts the operations of matrix products and convolutions: those that have a backward pass, and those that have none."""

    def __init__(self) -> None:
        super().__init__()
        self.with_gradient = self.without = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        packet = func._overloadpacket
        if count := flop_registry.get(IN_PLACE.get(packet, packet)):
            operations = count(*args, **(kwargs or {}), out_val=result)
            if torch.is_grad_enabled():
                self.with_gradient += operations
            else:
                self.without += operations
        return result


def pretended(module: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """The module with tensors without numbers on the pretended GPU in place of its own."""
    for owner in module.modules():
        for tensors in (owner._parameters, owner._buffers):
            for name, value in tensors.items():
                if value is not None:
                    with mode:
                        empty = torch.empty(value.shape, dtype=value.dtype, device=CUDA)
                        tensors[name] = nn.Parameter(empty, value.requires_grad) if tensors is owner._parameters else empty
    return module


@cache
def _of_memory(section: str, num_samples: int) -> float:
    """Operations an image of a step with a memory of so many images; a backward pass takes twice those of its forward pass."""
    options: dict[str, Any] = json.loads(section)
    options["training"]["precision"] = "fp32"  # torch warns of 16 bits where there is no GPU, and the operations are the same
    objective, mode = build_objective(options, num_samples).train(), FakeTensorMode(allow_non_fake_inputs=True)
    pretended(objective, mode)
    kinds, batch = view_kinds(options) or [options["augmentation"]] * objective.views, options["training"]["batch_size"]
    with mode, Counter() as counted:
        views = [torch.empty(batch, 3, kind["size"], kind["size"], device=CUDA) for kind in kinds]
        index = torch.empty(batch, dtype=torch.long, device=CUDA)
        output = objective(views, index, LATE)
        with torch.no_grad():
            objective.end_step(index, output["memory"])
    return (3 * counted.with_gradient + counted.without) / batch


def operations_of(section: str, num_samples: int) -> float:
    """Operations that each of N images costs a training of a section (JSON): all views, copies and patches, other networks and the memory.

    RuntimeError where a plug-in's step cannot be done without numbers.
    """
    small, large = (_of_memory(section, size) for size in SIZES)
    return small + (large - small) * (num_samples - SIZES[0]) / (SIZES[1] - SIZES[0])
