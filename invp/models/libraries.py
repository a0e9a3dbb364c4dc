"""Modules of torchvision and timm without torch's compiler, whose import takes longer than their own and which no encoder needs."""

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType

import torch

COMPILER = "torch._dynamo.utils"


def _is_compile_supported(device_type: str) -> bool:
    """What torchvision's region pooling asks the compiler when it is called; only then is the compiler imported."""
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)


def _disabled(function: Callable) -> Callable:
    """`torch.compiler.disable(function)`, which is asked when the function is called, and only if the compiler was imported by then."""

    @functools.wraps(function)
    def called(*arguments, **options):
        compiled = "torch._dynamo" in sys.modules
        return (torch.compiler.disable(function) if compiled else function)(*arguments, **options)

    return called


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Stands in for what these libraries ask of the compiler while they are imported: one function, and one decorator."""
    stands_in, disable = COMPILER not in sys.modules, torch.compiler.disable
    if stands_in:
        sys.modules[COMPILER] = ModuleType(COMPILER)
        vars(sys.modules[COMPILER])["is_compile_supported"] = _is_compile_supported
        torch.compiler.disable = _disabled
    try:
        yield
    finally:
        if stands_in:
            del sys.modules[COMPILER]
            torch.compiler.disable = disable


def imported(name: str) -> ModuleType:
    """The module of torchvision or timm with this name, such as `torchvision.models.resnet`."""
    if name in sys.modules:
        return sys.modules[name]
    with _without_compiler():
        return import_module(name)
