"""Equations 4 to 7 in closed form: per anchor the loss and its derivative by each similarity, without autograd.

B anchors, M background rows, P hard positives, D dimensions. A similarity is b_j.v_i, so that the
gradient by the feature is the sum of the bank rows under these derivatives. Nothing is exponentiated before its maximum
is subtracted.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

RAMPS = ("binary", "gaussian", "constant")


class InstanceTerms(NamedTuple):
    """L_ins per anchor and its derivatives by the anchor's own similarity (B) and those of the background (BxM)."""

    loss: Tensor
    by_own: Tensor
    by_near: Tensor


class InvarianceTerms(NamedTuple):
    """L_inv per anchor and its derivatives by the similarities of hard positives (BxP), near rows (BxM), own (B)."""

    loss: Tensor
    by_hard: Tensor
    by_near: Tensor
    by_own: Tensor


def ramp(name: str, epoch: int, last_epoch: int) -> float:
    """The weight w(t) of L_inv in an epoch (counted from 1): 0 up to `last_epoch` and 1 afterwards, or a smooth rise.

    binary: t > T; gaussian: exp(-5 (1 - t/T)^2) up to T, then 1; constant: 1.
    """
    if name == "binary":
        return float(epoch > last_epoch)
    if name == "gaussian":
        return math.exp(-5 * max(1 - epoch / last_epoch, 0) ** 2) if last_epoch > 0 else 1.0
    assert name == "constant", name
    return 1.0


def instance_loss(own: Tensor, near: Tensor, temperature: float, eps: float = 0.0) -> InstanceTerms:
    """The instance loss of each anchor from its own similarity (B) and those of its nearest rows (BxM).

    L_ins = -log(exp(own/tau) / sum exp(near/tau) + eps); the paper's equation 6 has eps = 0.
    """
    top = near.amax(1)  # subtracted before the division by tau, which would round it coarsely
    logits = (near - top[:, None]).div_(temperature)
    loss, scale = _minus_log((own - top) / temperature - torch.logsumexp(logits, 1), eps)
    scale = scale / temperature
    by_near = torch.softmax(logits, 1).mul_(scale[:, None])
    return InstanceTerms(loss, -scale, by_near)


def invariance_loss(
    hard: Tensor,
    hard_mask: Tensor,
    near: Tensor,
    near_mask: Tensor | None,
    temperature: float,
    *,
    with_hard: bool = True,
    subtract: Tensor | None = None,
    eps: float = 0.0,
) -> InvarianceTerms:
    """The invariance loss of each anchor from the similarities of its hard positives (BxP) and nearest rows (BxM).

    L_inv = -log(sum_h exp(h/tau) / sum_n exp(n/tau) + eps), equations 4 and 5 with eps = 0. The denominator runs over
    the near rows under their mask and, `with_hard`, over the hard positives: B = (N_M \\ N) u N_h. `subtract` (B, -inf
    for nothing) is a similarity whose term is taken off it. An anchor without positives has loss and derivatives 0.
    """
    top = near.amax(1)
    hard = ((hard - top[:, None]) / temperature).masked_fill(~hard_mask, -torch.inf)
    near = (near - top[:, None]).div_(temperature)
    if near_mask is not None:
        near = near.masked_fill_(~near_mask, -torch.inf)
    some = hard_mask.any(1)
    numerator = torch.where(some, torch.logsumexp(hard, 1), 0.0)
    denominator = torch.logsumexp(near, 1)
    if with_hard:
        denominator = torch.logaddexp(denominator, numerator)
    by_own = torch.zeros_like(numerator)
    if subtract is not None:
        subtract = (subtract - top) / temperature
        denominator = denominator + torch.log1p(-torch.exp(subtract - denominator))
        by_own = -torch.exp(subtract - denominator)
    loss, scale = _minus_log(numerator - denominator, eps)
    scale = torch.where(some, scale / temperature, 0.0)
    by_near = near.sub_(denominator[:, None]).exp_().mul_(scale[:, None])
    by_hard = torch.exp(hard - numerator[:, None]).neg_()
    if with_hard:
        by_hard += torch.exp(hard - denominator[:, None])
    return InvarianceTerms(torch.where(some, loss, 0.0), by_hard * scale[:, None], by_near, by_own * scale)


def noise_contrastive_loss(
    own: Tensor, noise: Tensor, log_partition: Tensor, num_samples: int, temperature: float
) -> InstanceTerms:
    """The noise-contrastive instance loss of each anchor from its own similarity (B) and those of m noise rows (Bxm).

    P(j|v) = exp(s_j/tau) / Z, h = P / (P + m/N); L = -log h(own) - sum log(1 - h(noise)). `log_partition` is log Z,
    B or a scalar. Source: Wu et al., CVPR 2018, equations 4 to 7.
    """
    shift = log_partition + math.log(noise.shape[1] / num_samples)
    own_logit = own / temperature - shift
    noise_logit = noise / temperature - (shift[:, None] if shift.dim() else shift)
    loss = torch.nn.functional.softplus(-own_logit) + torch.nn.functional.softplus(noise_logit).sum(1)
    return InstanceTerms(loss, -torch.sigmoid(-own_logit) / temperature, torch.sigmoid(noise_logit) / temperature)


def attach_gradient(features: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:
    """The scalar `loss`, whose derivative by the features (BxD) is the given `gradient` (BxD)."""
    return _ClosedForm.apply(features, loss, gradient.to(features.dtype))


def _minus_log(log_ratio: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """-log(exp(log_ratio) + eps) and minus its derivative by log_ratio."""
    if eps == 0:
        return -log_ratio, torch.ones_like(log_ratio)
    ratio = log_ratio.exp()
    return -torch.log(ratio + eps), ratio / (ratio + eps)


class _ClosedForm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, features: Tensor, loss: Tensor, gradient: Tensor) -> Tensor:  # type: ignore[override]
        ctx.save_for_backward(gradient)
        return loss.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, by_loss: Tensor):  # type: ignore[override]
        (gradient,) = ctx.saved_tensors
        return by_loss * gradient, None, None
