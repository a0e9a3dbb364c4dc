"""Modules of torchvision and timm without torch's compiler, whose import takes longer than their own and which no encoder needs."""

import functools
import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

import torch

COMPILER = "torch._dynamo.utils"


def _is_compile_supported(device_type: str) -> bool:
    """What torchvision's region pooling asks the compiler when it is called; only then is the compiler imported."""
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)


def _import_torchvision() -> None:
    """Imports torchvision, for which a module with one function stands for the compiler's, unless that is there."""
    if "torchvision" in sys.modules or COMPILER in sys.modules:
        return
    sys.modules[COMPILER] = ModuleType(COMPILER)
    vars(sys.modules[COMPILER])["is_compile_supported"] = _is_compile_supported
    try:
        import_module("torchvision")
    finally:
        del sys.modules[COMPILER]


def _disabled(disable: Callable, function: Callable | None = None, **options) -> Callable:
    """`disable(function)`, `torch.compiler`'s, which is asked when the function is called, and only if the compiler was imported by then."""
    if function is None or options:
        return disable(function, **options)

    @functools.wraps(function)
    def called(*arguments, **named):
        return (disable(function) if "torch._dynamo" in sys.modules else function)(*arguments, **named)

    return called


def imported(name: str) -> ModuleType:
    """The module of torchvision or timm with this name, such as `torchvision.models.resnet`."""
    if name in sys.modules:
        return sys.modules[name]
    _import_torchvision()
    disable = torch.compiler.disable
    torch.compiler.disable = functools.partial(_disabled, disable)
    try:
        return import_module(name)
    finally:
        torch.compiler.disable = disable
