"""Contrastive losses of the rivals, per anchor.

A anchors, B batch, D dimensions, K keys or prototypes, N rows, M nearest rows.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """The loss (B) of telling each query's (BxD) own key (BxD) from the shared negatives (KxD); all rows are unit vectors.

    L = -log exp(q.k/tau) / (exp(q.k/tau) + sum_n exp(q.n/tau)). Source: He et al., CVPR 2020, equation 1.
    """
    own = (queries * keys).sum(1, keepdim=True)
    logits = torch.cat([own, queries @ negatives.T], 1) / temperature
    return torch.logsumexp(logits, 1) - logits[:, 0]


def nt_xent(anchors: Tensor, rows: Tensor, own: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """The loss (A) of finding each anchor's (AxD) other view among the rows (NxD), both of unit length.

    `own` (A) is the row that is the anchor itself and is left out, `positive` (A) that of its other view.
    Source: Chen et al., ICML 2020 (SimCLR), equation 1.
    """
    logits = (anchors @ rows.T / temperature).scatter(1, own[:, None], -torch.inf)
    return F.cross_entropy(logits, positive, reduction="none")


def set_loss(similarities: Tensor, members: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """-log P(S) of each anchor's set S, in closed form: the losses (B) and their derivatives by the similarities (BxM).

    P(S) = sum_{j in S} exp(s_j/tau) / sum_j exp(s_j/tau), S given by the mask `members` (BxM). An anchor whose set is
    empty has loss and derivatives 0. Sources: Huang et al., ICML 2019 (AND), equations 4 and 5; Zhuang et al.,
    ICCV 2019 (Local Aggregation), equation 4.
    """
    logits = similarities / temperature
    inside = logits.masked_fill(~members, -torch.inf)
    some = members.any(1)
    log_all = torch.logsumexp(logits, 1)
    log_set = torch.where(some, torch.logsumexp(inside, 1), log_all)
    by_logit = torch.exp(logits - log_all[:, None]) - torch.exp(inside - log_set[:, None])
    return log_all - log_set, by_logit * (some[:, None] / temperature)


def row_entropies(rows: Tensor, temperature: float, *, block: int = 512) -> Tensor:
    """The entropy (N) of each row's softmax over all rows (NxD), itself among them. Source: AND, equation 6."""
    parts = []
    for part in rows.split(block):
        log_p = torch.log_softmax(part @ rows.T / temperature, 1)
        parts.append(-(log_p.exp() * log_p).sum(1))
    return torch.cat(parts)


def prototype_loss(features: Tensor, cluster: Tensor, centroids: Tensor, concentration: Tensor) -> Tensor:
    """The loss (B) of telling each feature's (BxD) own prototype `cluster` (B) from all K (KxD, unit vectors).

    Each prototype has its own temperature phi_k, the `concentration` (K).
    Source: Li et al., ICLR 2021 (PCL), equation 11.
    """
    # Differs from the paper: all prototypes are in the sum, not r that are drawn.
    return F.cross_entropy(features @ centroids.T / concentration, cluster, reduction="none")


def concentrations(distance: Tensor, cluster: Tensor, num_clusters: int, temperature: float, smooth: float) -> Tensor:
    """phi (K) of the clusters: the mean distance (N) of members to their centroid over log(members + alpha).

    As in the authors' code, a cluster of fewer than two takes the largest value, what lies beyond the tenth and the
    ninetieth percentile is cut to them, and the values are scaled to a mean of tau. Source: PCL, equation 12.
    """
    count = torch.bincount(cluster, minlength=num_clusters)
    total = torch.zeros(num_clusters, dtype=distance.dtype, device=distance.device).index_add_(0, cluster, distance)
    phi = total / count.clamp(min=1) / torch.log(count + smooth)
    phi = torch.where(count > 1, phi, phi[count > 1].max() if bool((count > 1).any()) else phi.new_ones(()))
    low, high = torch.quantile(phi, phi.new_tensor([0.1, 0.9])).unbind()
    phi = phi.clamp(low, high)
    return temperature * phi / phi.mean() if phi.mean() > math.ulp(0.0) else torch.full_like(phi, temperature)
