"""A function of tensors on a GPU whose operations are recorded once and launched together from then on, as a CUDA graph."""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

WARM_UP = 3  # calls before the recording, in which libraries choose their algorithms and take their memory


class Replayed:
    """`function`, of tensors on a GPU, without the time that launching each of its operations takes the host.

    It must do the same operations on tensors of the same shapes in every call, take every number that changes from a tensor, and keep
    nothing in Python; what it returns lies in the same memory after each call, so whoever keeps it copies it. Tensors on the CPU are sent
    to the GPU. What cannot be recorded is said once and goes on as it is. Source: CUDA graphs, by torch.cuda.CUDAGraph.
    """

    def __init__(self, function: Callable[..., Any], device: torch.device) -> None:
        self.function, self.device, self.calls = function, device, 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.given: list[Tensor] = []
        self.refused = False  # the device would not record it

    def __call__(self, *given: Tensor) -> Any:
        recorded = self.graph is not None or self._record(given)
        if not recorded or [tensor.shape for tensor in given] != [tensor.shape for tensor in self.given]:
            return self.function(*(tensor.to(self.device, non_blocking=True) for tensor in given))
        for own, new in zip(self.given, given, strict=True):
            own.copy_(new, non_blocking=True)
        self.graph.replay()
        return self.returned

    def _record(self, given: tuple[Tensor, ...]) -> bool:
        """Records the operations, which does not run them, and says whether that worked: not before it is warm, and tried once."""
        self.calls += 1
        if self.calls != WARM_UP + 1:
            return False
        self.given = [tensor.to(self.device, copy=True) for tensor in given]
        graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(graph):
                self.returned = self.function(*self.given)
        except RuntimeError as error:
            print(f"no CUDA graph of a step, which takes longer without: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
            self.refused = True
            return False
        self.graph = graph
        return True
