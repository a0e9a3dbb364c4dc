"""Products of B rows of numbers with a large matrix of N rows, without autograd. D dimensions.

torch multiplies float32 matrices on a CPU by MKL, which on AMD's processors leaves half of a 512-bit unit unused; torch has oneDNN too, for
its convolutions, whose product takes half the time there, and nine tenths of it with 256-bit units. Both compute in float32 and round differently.
"""

import torch
from torch import Tensor

LARGE = 1 << 20  # numbers of the large matrix, below which MKL's product is as fast
ROWS = 4096  # whose product with the B stays in a processor's cache


def _by_onednn(left: Tensor, matrix: Tensor) -> bool:
    """Whether oneDNN multiplies these: float32 on a CPU, in numbers that make it worth while, of which no gradient is asked."""
    if matrix.numel() < LARGE or {left.device.type, matrix.device.type} != {"cpu"} or {left.dtype, matrix.dtype} != {torch.float32}:
        return False
    needs_gradient = torch.is_grad_enabled() and (left.requires_grad or matrix.requires_grad)
    return not needs_gradient and torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def _linear(left: Tensor, weight: Tensor) -> Tensor:
    """left @ weight.T by oneDNN, as torch's compiler calls it."""
    return torch.ops.mkldnn._linear_pointwise(left, weight, None, "none", [], "")


def with_each_row(left: Tensor, matrix: Tensor, out: Tensor | None = None) -> Tensor:
    """The products BxN of each row of `left` (BxD) with each row of `matrix` (NxD), in `out` (BxN) if it is given."""
    if not _by_onednn(left, matrix):
        return left @ matrix.T if out is None else torch.mm(left, matrix.T, out=out)
    if out is None:
        return _linear(left, matrix)
    for start in range(0, len(matrix), ROWS):
        out[:, start : start + ROWS] = _linear(left, matrix[start : start + ROWS])
    return out


def add_all_rows(sums: Tensor, weights: Tensor, matrix: Tensor) -> Tensor:
    """`sums` (BxD), to which the sums of all rows of `matrix` (NxD) with weights BxN were added in place."""
    return sums.add_(_linear(weights, matrix.T)) if _by_onednn(weights, matrix) else sums.addmm_(weights, matrix)
