"""torchvision's ResNets without torch's compiler, whose import takes longer than torchvision's own and which no encoder needs."""

import sys
from types import ModuleType

COMPILER = "torch._dynamo.utils"


def _is_compile_supported(device_type: str) -> bool:
    """What torchvision's region pooling asks the compiler when it is called; only then is the compiler imported."""
    from torch._dynamo.utils import is_compile_supported

    return is_compile_supported(device_type)


def resnet_module() -> ModuleType:
    """The module `torchvision.models.resnet`.

    torchvision imports all of its operators, and one of them imports the compiler for one function; while it is imported for the first
    time, a function that imports the compiler when it is called stands in for that.
    """
    stands_in = COMPILER not in sys.modules and "torchvision" not in sys.modules
    if stands_in:
        sys.modules[COMPILER] = ModuleType(COMPILER)
        vars(sys.modules[COMPILER])["is_compile_supported"] = _is_compile_supported
    try:
        from torchvision.models import resnet
    finally:
        if stands_in:
            del sys.modules[COMPILER]
    return resnet
