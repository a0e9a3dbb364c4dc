"""Balanced assignments of a batch to prototypes, and the loss of predicting them from other views.

B images, K prototypes, L patches of an image, V views, A views that have codes.
"""

import torch
from torch import Tensor


def sinkhorn(scores: Tensor, epsilon: float, rounds: int) -> Tensor:
    """The codes (BxK) of scores (BxK): exp(scores / epsilon), scaled so that every prototype gets B / K images; rows sum up to 1.

    A round scales columns, then rows. After many rounds columns sum up to B / K; after the usual three nearly. Computed in logarithms, so
    that no epsilon overflows. Sources: Caron et al., NeurIPS 2020 (SwAV), "Online clustering"; Cuturi, NeurIPS 2013.
    """
    log_codes = scores / epsilon
    for _ in range(rounds):
        log_codes = log_codes - log_codes.logsumexp(0, keepdim=True)
        log_codes = log_codes - log_codes.logsumexp(1, keepdim=True)
    return log_codes.exp()


def swapped_prediction(scores: Tensor, codes: Tensor, temperature: float) -> Tensor:
    """The mean over images, codes and other views of - sum_k q_k log softmax(s / tau)_k, from scores VxBxK and codes AxBxK.

    The first A views are those of the codes; none predicts its own code. Source: SwAV, "Swapped prediction problem" and "Multi-crop".
    """
    log_p = (scores / temperature).log_softmax(2)
    terms = torch.einsum("abk,vbk->av", codes, log_p) / scores.shape[1]
    others = 1 - torch.eye(*terms.shape, dtype=terms.dtype, device=terms.device)
    return -(terms * others).sum() / others.sum()


def hidden_prediction(scores: Tensor, codes: Tensor, hidden: Tensor, temperature: float) -> Tensor:
    """The mean over images of the mean over their hidden patches of - sum_k q_k log softmax(s / tau)_k, from scores and codes BxLxK.

    `hidden` (BxL) says which patches count; an image without any counts as 0. Source: Zhou et al., ICLR 2022 (iBOT), equation 3.
    """
    entropies = -(codes * (scores / temperature).log_softmax(2)).sum(2)
    return ((entropies * hidden).sum(1) / hidden.sum(1).clamp(min=1)).mean()
