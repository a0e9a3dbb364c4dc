"""Equations 4 to 7 in closed form: the loss of each anchor and its derivative by each similarity, without autograd.

B anchors, M nearest rows, P hard positives, D dimensions. A similarity is b_j.v_i, so the gradient by the feature is
the sum of the bank rows, each weighted with the derivative by its similarity. The largest similarity is subtracted
before anything is exponentiated, so nothing overflows. The nearest rows are exponentiated once for both losses.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

RAMPS = ("binary", "gaussian", "constant")
FARTHEST = -1e30  # a similarity that none falls below, instead of -inf, the largest of no similarity


class Exponentials(NamedTuple):
    """exp((s - top) / tau) of the similarities s of each anchor to its nearest rows; of a row that is left out, 0."""

    top: Tensor  # B, the largest similarity
    value: Tensor  # BxM


class InstanceTerms(NamedTuple):
    """L_ins of each anchor, and its derivatives by similarities."""

    loss: Tensor  # B
    by_own: Tensor  # B, by that of the anchor's own row
    by_near: Tensor  # BxM, by those of the nearest rows, or of the noise rows


class InvarianceTerms(NamedTuple):
    """L_inv of each anchor, and its derivatives by similarities."""

    loss: Tensor  # B
    by_hard: Tensor  # BxP, by those of the hard positives
    by_near: Tensor  # BxM, by those of the nearest rows
    by_own: Tensor  # B, by that of the anchor's own row


def ramp(name: str, epoch: int, last_epoch: int) -> float:
    """The weight w(t) of L_inv in epoch t, counted from 1; `last_epoch` is T, `name` one of RAMPS.

    binary: 0 up to T, then 1; gaussian: exp(-5 (1 - t/T)^2) up to T, then 1; constant: 1.
    """
    if name == "binary":
        return float(epoch > last_epoch)
    if name == "gaussian":
        return math.exp(-5 * max(1 - epoch / last_epoch, 0) ** 2) if last_epoch > 0 else 1.0
    assert name == "constant", name
    return 1.0


def exponentials(near: Tensor, temperature: float) -> Exponentials:
    """The exponentials of the similarities BxM of B anchors; a similarity of -inf has 0."""
    top = near.amax(1).clamp_(min=FARTHEST)  # subtracted before the division by tau, which would round it coarsely
    return Exponentials(top, (near - top[:, None]).div_(temperature).exp_())


def instance_loss(own: Tensor, near: Exponentials, temperature: float, eps: float = 0.0) -> InstanceTerms:
    """The instance loss of each anchor from its own similarity (B) and the exponentials of its nearest rows (BxM).

    L_ins = -log(exp(own/tau) / sum exp(near/tau) + eps); the paper's equation 6 has eps = 0.
    """
    total = near.value.sum(1)
    loss, scale = _minus_log((own - near.top) / temperature - total.log(), eps)
    scale = scale / temperature
    return InstanceTerms(loss, -scale, near.value * (scale / total)[:, None])


def invariance_loss(
    hard: Tensor,
    near: Exponentials,
    temperature: float,
    *,
    with_hard: bool = True,
    subtract: Tensor | None = None,
    eps: float = 0.0,
) -> InvarianceTerms:
    """The invariance loss of each anchor from the similarities of its hard positives (BxP) and the exponentials of its nearest rows (BxM).

    L_inv = -log(sum_h exp(h/tau) / sum_n exp(n/tau) + eps); equations 4 and 5 have eps = 0. In `hard`, -inf stands
    where an anchor has fewer than P positives; one that has none has loss and derivatives 0. The denominator is the sum
    over the nearest rows and, `with_hard`, over the hard positives: B = (N_M \\ N) u N_h, where the exponentials of
    N are 0. From it exp(subtract/tau) is subtracted, where `subtract` (B) is a similarity, or -inf for nothing.
    """
    has_positives = (hard != -torch.inf).any(1)
    hard = (hard - near.top[:, None]) / temperature
    numerator = torch.where(has_positives, torch.logsumexp(hard, 1), 0.0)
    denominator = near.value.sum(1).log()
    if with_hard:
        denominator = torch.logaddexp(denominator, numerator)
    by_own = torch.zeros_like(numerator)
    if subtract is not None:
        subtract = (subtract - near.top) / temperature
        denominator = denominator + torch.log1p(-torch.exp(subtract - denominator))
        by_own = -torch.exp(subtract - denominator)
    loss, scale = _minus_log(numerator - denominator, eps)
    scale = torch.where(has_positives, scale / temperature, 0.0)
    by_near = near.value * (scale * torch.exp(-denominator))[:, None]
    by_hard = torch.exp(hard - numerator[:, None]).neg_()
    if with_hard:
        by_hard += torch.exp(hard - denominator[:, None])
    return InvarianceTerms(torch.where(has_positives, loss, 0.0), by_hard * scale[:, None], by_near, by_own * scale)


def noise_contrastive_loss(
    own: Tensor, noise: Tensor, log_partition: Tensor, num_samples: int, temperature: float
) -> InstanceTerms:
    """The noise-contrastive instance loss of each anchor from its own similarity (B) and those of m noise rows (Bxm).

    P(j|v) = exp(s_j/tau) / Z, h = P / (P + m/N), with N = `num_samples`; L = -log h(own) - sum log(1 - h(noise)).
    `log_partition` is log Z: one for each anchor (B), or a scalar. Source: Wu et al., CVPR 2018, equations 4 to 7.
    """
    shift = log_partition + math.log(noise.shape[1] / num_samples)
    own_logit = own / temperature - shift
    noise_logit = noise / temperature - (shift[:, None] if shift.dim() else shift)
    loss = torch.nn.functional.softplus(-own_logit) + torch.nn.functional.softplus(noise_logit).sum(1)
    return InstanceTerms(loss, -torch.sigmoid(-own_logit) / temperature, torch.sigmoid(noise_logit) / temperature)


def attach_gradient(features: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
    """The scalar `loss` as a node of autograd, whose derivative by the features (BxD) is the given `gradient` (BxD)."""
    return _ClosedForm.apply(features, loss, gradient.to(features.dtype))


def _minus_log(log_ratio: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """-log(exp(log_ratio) + eps) and minus its derivative by log_ratio."""
    if eps == 0:
        return -log_ratio, torch.ones_like(log_ratio)
    ratio = log_ratio.exp()
    return -torch.log(ratio + eps), ratio / (ratio + eps)


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
        ctx.save_for_backward(gradient)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, by_loss: Tensor):
        (gradient,) = ctx.saved_tensors
        return by_loss * gradient, None, None
