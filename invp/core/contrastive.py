"""The losses of the methods that InvP is compared with, one number for each anchor.

A anchors, B batch, D dimensions, K keys or prototypes, N rows, M nearest rows.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def info_nce(queries: Tensor, keys: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """InfoNCE (B) of queries (BxD), each with its own key (BxD) and the shared negatives (KxD); all are unit vectors.

    L = -log exp(q.k/tau) / (exp(q.k/tau) + sum_n exp(q.n/tau)). Source: He et al., CVPR 2020, equation 1.
    """
    own = (queries * keys).sum(1, keepdim=True)
    logits = torch.cat([own, queries @ negatives.T], 1) / temperature
    return torch.logsumexp(logits, 1) - logits[:, 0]


def relation_loss(queries: Tensor, keys: Tensor, rows: Tensor, temperature: float, key_temperature: float) -> Tensor:
    """The cross-entropy (B) of the softmaxes over the rows (KxD) that keys and queries (BxD each) have; all are unit vectors.

    L = -sum_j p_j log q_j with p = softmax(k.rows/tau_k), the target, and q = softmax(q.rows/tau).
    Source: Zheng et al., NeurIPS 2021 (ReSSL).
    """
    target = torch.softmax(keys @ rows.T / key_temperature, 1)
    return F.cross_entropy(queries @ rows.T / temperature, target, reduction="none")


def nt_xent(anchors: Tensor, rows: Tensor, own: Tensor, positive: Tensor, temperature: float) -> Tensor:
    """NT-Xent (A): each anchor (AxD) looks for the other view of its image among all views (NxD); all are unit vectors.

    `own` (A) is the row of the anchor itself, which is left out; `positive` (A) is the row of the other view.
    Source: Chen et al., ICML 2020 (SimCLR), equation 1.
    """
    logits = (anchors @ rows.T / temperature).scatter(1, own[:, None], -torch.inf)
    return F.cross_entropy(logits, positive, reduction="none")


def set_loss(similarities: Tensor, members: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """-log P(S) for the set S of each anchor, in closed form: losses (B) and derivatives by the similarities (BxM).

    P(S) = sum_{j in S} exp(s_j/tau) / sum_j exp(s_j/tau); the mask `members` (BxM) says which rows are in S. An anchor
    whose set is empty has loss and derivatives 0. Sources: Huang et al., ICML 2019 (AND), equations 4 and 5; Zhuang et
    al., ICCV 2019 (Local Aggregation), equation 4.
    """
    logits = similarities / temperature
    inside = logits.masked_fill(~members, -torch.inf)
    has_members = members.any(1)
    log_all = torch.logsumexp(logits, 1)
    log_set = torch.where(has_members, torch.logsumexp(inside, 1), log_all)
    by_logit = torch.exp(logits - log_all[:, None]) - torch.exp(inside - log_set[:, None])
    return log_all - log_set, by_logit * has_members[:, None] / temperature


def row_entropies(rows: Tensor, temperature: float, *, block: int = 512) -> Tensor:
    """The entropy (N) of the softmax over each row's similarities to all rows (NxD), itself included.

    `block` rows are worked on at a time. Source: AND, equation 6.
    """
    entropies = []
    for block_rows in rows.split(block):
        log_p = torch.log_softmax(block_rows @ rows.T / temperature, 1)
        entropies.append(-(log_p.exp() * log_p).sum(1))
    return torch.cat(entropies)


def prototype_loss(features: Tensor, cluster: Tensor, centroids: Tensor, concentration: Tensor) -> Tensor:
    """The second term of ProtoNCE (B): each feature (BxD) looks for its own prototype among all of them.

    The prototypes are `centroids` (KxD, unit vectors), the own one is number `cluster` (B), and each has a temperature
    of its own, phi_k: its `concentration` (K). Source: Li et al., ICLR 2021 (PCL), equation 11.
    """
    # Differs from the paper: the sum runs over all prototypes, not over r that are drawn at random.
    return F.cross_entropy(features @ centroids.T / concentration, cluster, reduction="none")


def concentrations(distance: Tensor, cluster: Tensor, num_clusters: int, temperature: float, smooth: float) -> Tensor:
    """phi (K) of each cluster: the mean distance of its rows to the centroid over log(number of its rows + `smooth`).

    `distance` and `cluster` are those of N rows; `smooth` is the paper's alpha. As in the authors' code, a cluster of
    fewer than two rows takes the largest phi, values are clamped to the tenth and the ninetieth percentile, and then
    scaled to a mean of tau. Source: PCL, equation 12.
    """
    count = torch.bincount(cluster, minlength=num_clusters)
    total = torch.zeros(num_clusters, dtype=distance.dtype, device=distance.device).index_add_(0, cluster, distance)
    phi = total / count.clamp(min=1) / torch.log(count + smooth)
    phi = torch.where(count > 1, phi, phi[count > 1].max() if bool((count > 1).any()) else phi.new_ones(()))
    low, high = torch.quantile(phi, phi.new_tensor([0.1, 0.9])).unbind()
    phi = phi.clamp(low, high)
    return temperature * phi / phi.mean() if phi.mean() > math.ulp(0.0) else torch.full_like(phi, temperature)
