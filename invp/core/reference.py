"""Invariance Propagation as the paper states it: equations (1) to (7) of Wang et al., NeurIPS 2020 (arXiv 2010.11694).

Read this module to learn the method. It keeps the paper's order and symbols, and treats one image at a time, slowly.
Only tests import it: they compare the fast code with it, and each docstring ends with the name of the fast function.

    N    number of images; i, j are numbers of images
    D    dimensions of a feature
    B    number of images in a batch
    v    D, the feature of image i by the current network: a unit vector, with gradient
    b    NxD, the memory bank: row j is the remembered feature of image j, a unit vector, without gradient
    s    N, the similarities b_j.v of one feature to all rows; of unit vectors this is the cosine
    tau  the temperature

A set of images is a set or a list of their numbers. A graph is a list that holds, for each image, the list of its
neighbours.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Constants:
    """The constants of the method, with the paper's values for ImageNet and a linear head."""

    tau: float = 0.07
    k: int = 4  # neighbours of an image in the graph
    steps: int = 3  # l in the paper: how many steps of the graph lead from an image to its positives
    P: int = 50  # hard positives
    M: int = 4096  # nearest rows
    weight: float = 0.6  # lambda in the paper
    T: int = 30  # the last epoch without the invariance loss
    m: float = 0.5  # momentum of the memory bank


def similarities(v: Tensor, b: Tensor) -> Tensor:
    """s: the similarities (N) of the feature v (D) to all rows of the bank (NxD).

    Fast: `invp.core.neighbours.similarities`, and `invp.core.selection.selected_similarities` for chosen rows.
    """
    return b @ v


def probabilities(s: Tensor, tau: float) -> Tensor:
    """Equation (1): P_v(j), the probability (N) that v is recognised as image j, from the similarities s (N).

    Fast: `invp.core.losses.instance_loss` works with its logarithm.
    """
    exponentials = torch.exp(s / tau)
    return exponentials / exponentials.sum()


def set_probability(S: Iterable[int], s: Tensor, tau: float) -> Tensor:
    """Equation (2): P_v(S), the probability (a scalar) that v is recognised as one of the images in S.

    Fast: `invp.core.contrastive.set_loss` is -log P_v(S).
    """
    return probabilities(s, tau)[list(S)].sum()


def nearest(s: Tensor, count: int) -> list[int]:
    """N_M: the `count` images of largest similarity s (N), the largest first; of equal ones the lowest number first.

    Fast: `invp.core.neighbours.top_k`, in another order.
    """
    values = s.tolist()
    return sorted(range(len(values)), key=lambda j: (-values[j], j))[:count]


def neighbours(s: Tensor, i: int, k: int) -> list[int]:
    """N_k(i): the k images nearest to image i, nearest first, from its similarities s (N). It is not its own neighbour.

    Fast: `invp.core.neighbours.nearest_first`, of what `invp.core.neighbours.top_k` returns.
    """
    return [j for j in nearest(s, len(s)) if j != i][:k]


def knn_graph(b: Tensor, k: int) -> list[list[int]]:
    """N_k(i) of every row of the bank (NxD). In training, an image's list is made when the image is visited.

    Fast: `invp.core.neighbours.knn_graph`.
    """
    return [neighbours(similarities(b[i], b), i, k) for i in range(len(b))]


def positives(graph: list[list[int]], i: int, steps: int) -> set[int]:
    """Equation (3): N(i), the images within `steps` steps of image i on the graph, without i itself.

    Fast: `invp.core.propagation.discover`.
    """
    S = set(graph[i])  # S_1 = N_k(i)
    for _ in range(steps - 1):
        S = S | {j for node in S for j in graph[node]}  # S_{s+1} = S_s u N_k(S_s)
    return S - {i}


def hard_positives(s: Tensor, N_i: set[int], P: int) -> list[int]:
    """N_h(i): the P positives of lowest similarity s (N), the lowest first; all of them if there are fewer than P.

    Fast: `invp.core.selection.extreme_positives`.
    """
    values = s.tolist()
    return sorted(N_i, key=lambda j: (values[j], j))[:P]


def hard_negatives(s: Tensor, N_i: set[int], M: int) -> set[int]:
    r"""N_neg(i) = N_M(i) \ N(i): the M nearest images that are no positives.

    Fast: what `invp.core.selection.membership` leaves over.
    """
    return set(nearest(s, M)) - N_i


def invariance_loss(s: Tensor, N_h: Iterable[int], background: Iterable[int], tau: float) -> Tensor:
    """Equations (4) and (5): L_inv(i) = -log P(N_h(i)) / P(B(i)), with the background B(i) = N_neg(i) u N_h(i).

    For speed the paper takes N_M(i) as B(i); here, and in the package unless it is told otherwise, B(i) is exact. An image
    without positives, as all are before their neighbours were visited, has loss 0.
    Fast: `invp.core.losses.invariance_loss`.
    """
    N_h = list(N_h)
    if not N_h:
        return torch.zeros((), dtype=s.dtype)
    return -torch.log(set_probability(N_h, s, tau) / set_probability(background, s, tau))


def instance_loss(s: Tensor, i: int, N_M: Iterable[int], tau: float) -> Tensor:
    """Equation (6): L_ins(i) = -log [ exp(b_i.v / tau) / sum of exp(b_n.v / tau) over n in N_M(i) ].

    Fast: `invp.core.losses.instance_loss`.
    """
    return -torch.log(torch.exp(s[i] / tau) / torch.exp(s[list(N_M)] / tau).sum())


def ramp(t: int, T: int) -> float:
    """w(t), the weight of L_inv in epoch t, counted from 1: 0 up to epoch T and 1 afterwards.

    Fast: `invp.core.losses.ramp`.
    """
    return 0.0 if t <= T else 1.0


def loss(V: Tensor, index: list[int], b: Tensor, graph: list[list[int]], t: int, constants: Constants) -> Tensor:
    """Equation (7): L = sum of L_ins(i) + lambda w(t) L_inv(i) over the images `index` (B) with features V (BxD), in epoch t.

    Fast: `invp.core.batch_loss.batch_loss`, with the gradient by V; `invp.objectives.invp` takes the mean, not the sum.
    """
    total = torch.zeros((), dtype=V.dtype)
    for v, i in zip(V, index, strict=True):
        s = similarities(v, b)
        N_i = positives(graph, i, constants.steps)
        N_h = hard_positives(s, N_i, constants.P)
        background = hard_negatives(s, N_i, constants.M) | set(N_h)
        L_ins = instance_loss(s, i, nearest(s, constants.M), constants.tau)
        L_inv = invariance_loss(s, N_h, background, constants.tau)
        total = total + L_ins + constants.weight * ramp(t, constants.T) * L_inv
    return total


def updated_bank(b: Tensor, index: list[int], V: Tensor, m: float) -> Tensor:
    """The bank (NxD) after a step: b_i <- normalise(m b_i + (1 - m) v_i) for the images `index` of features V (BxD).

    An image that is twice in the batch leaves its last feature, mixed with the row from before the step.
    Fast: `invp.core.bank.update_rows`.
    """
    after = b.clone()
    for i, v in zip(index, V.detach(), strict=True):
        mixed = m * b[i] + (1 - m) * v
        after[i] = mixed / mixed.norm()
    return after
