"""Measures of a k-nearest-neighbour graph. N nodes, K neighbours, C classes.

A graph is a table of row numbers, NxK: row i holds the neighbours of node i, nearest first, without i itself. Labels
are N.
"""

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray
from scipy.sparse.csgraph import connected_components


def adjacency(neighbours: NDArray) -> sparse.csr_array:
    """The adjacency matrix of the directed graph: NxN, sparse, 1 for each edge."""
    n, k = neighbours.shape
    pointers = np.arange(0, n * k + 1, k)
    return sparse.csr_array((np.ones(n * k, np.int8), neighbours.ravel(), pointers), shape=(n, n))


def same_class_share(neighbours: NDArray, labels: NDArray) -> float:
    """The share of edges whose ends have the same label."""
    return float((labels[neighbours] == labels[:, None]).mean())


def in_degree(neighbours: NDArray) -> NDArray:
    """How many nodes each node is a neighbour of: N. A number below 0 is no neighbour."""
    return np.bincount(neighbours[neighbours >= 0], minlength=len(neighbours))


def skewness(values: NDArray) -> float:
    """The third standardised moment of in-degrees: 0 if they are symmetric, large if few nodes are hubs.

    Source: Radovanovic et al., JMLR 2010.
    """
    centred = values - values.mean()
    deviation = centred.std()
    return float((centred**3).mean() / deviation**3) if deviation > 0 else 0.0


def mutual_share(neighbours: NDArray) -> float:
    """The share of edges that also run the other way."""
    graph = adjacency(neighbours)
    return float(graph.multiply(graph.T).sum(dtype=np.int64) / graph.nnz)


def num_components(neighbours: NDArray, *, mutual: bool = False) -> int:
    """The number of weakly connected components; with `mutual`, of the graph of edges that also run the other way."""
    graph = adjacency(neighbours)
    if mutual:
        graph = graph.multiply(graph.T)
    return int(connected_components(graph, directed=True, connection="weak")[0])


def overlap(neighbours: NDArray, others: NDArray) -> NDArray:
    """The share of each node's neighbours that are its neighbours in another graph of the same nodes too: N."""
    width = min(neighbours.shape[1], others.shape[1])
    both = np.sort(np.concatenate([neighbours[:, :width], others[:, :width]], 1), 1)
    return (both[:, 1:] == both[:, :-1]).sum(1) / width


def class_confusion(neighbours: NDArray, labels: NDArray, num_classes: int) -> NDArray:
    """The share of the edges of each class (row) that end in each class (column): CxC; a row sums to 1, or 0 without edges."""
    pairs = np.repeat(labels, neighbours.shape[1]) * num_classes + labels[neighbours].ravel()
    counts = np.bincount(pairs, minlength=num_classes**2).reshape(num_classes, num_classes)
    return counts / np.maximum(counts.sum(1, keepdims=True), 1)


def class_votes(neighbours: NDArray, labels: NDArray, num_classes: int) -> tuple[NDArray, NDArray, NDArray]:
    """For which class most of each node's neighbours are, their share, and the share of the node's own class: N each.

    Shares are of the neighbours that there are (number 0 or more) and have a label (0 or more); without one the class is -1 and the share
    NaN, as is that of a node's own class if it has none. Of classes with as many neighbours the first one is taken.
    """
    near = np.where(neighbours >= 0, labels[neighbours], -1)
    nodes = np.repeat(np.arange(len(near)), near.shape[1])[near.ravel() >= 0]
    pairs, counts = np.unique(nodes * num_classes + near[near >= 0], return_counts=True)
    total = np.bincount(nodes, minlength=len(near)).astype(np.float64)
    order = np.lexsort((-(pairs % num_classes), counts, pairs // num_classes))  # of each node the winner comes last
    winner, most = np.full(len(near), -1), np.full(len(near), np.nan)
    winner[pairs[order] // num_classes], most[pairs[order] // num_classes] = pairs[order] % num_classes, counts[order]
    own = ((near == labels[:, None]) & (near >= 0)).sum(1).astype(np.float64)
    own[(labels < 0) | (total == 0)] = np.nan
    return winner, most / np.maximum(total, 1), own / np.maximum(total, 1)


def outlier_ranks(similarities: NDArray) -> NDArray:
    """The rank of each node's mean similarity to its neighbours (NxK), from 1 for the least: N. Of neighbours that were not found, -inf."""
    found = np.isfinite(similarities) & (similarities > -2)
    mean = np.where(found, similarities, 0).sum(1) / np.maximum(found.sum(1), 1)
    ranks = np.empty(len(mean), np.int64)
    ranks[np.argsort(mean, kind="stable")] = np.arange(1, len(mean) + 1)
    return ranks


def shares_by_kind(anchors: NDArray, same: NDArray, chosen: NDArray) -> tuple[float, float, int]:
    """The shares of `same` among the chosen pairs and among the others, and the number of anchors that they are means over.

    The three are of pairs, an entry a pair. A share is first that of an anchor, and the anchors are those that have pairs of both kinds;
    without one, the shares are NaN. Over all pairs, anchors of many pairs would count more among the others, and which class an
    anchor's surroundings have goes with how many pairs it has: the shares over pairs may be in the other order than those of every anchor.
    """
    size = int(anchors.max(initial=-1)) + 1
    pairs = np.stack([np.bincount(anchors[kind], minlength=size) for kind in (chosen, ~chosen)])
    hits = np.stack([np.bincount(anchors[kind], same[kind], minlength=size) for kind in (chosen, ~chosen)])
    both = (pairs > 0).all(0)
    if not both.any():
        return float("nan"), float("nan"), 0
    of_chosen, of_others = (hits[:, both] / pairs[:, both]).mean(1)
    return float(of_chosen), float(of_others), int(both.sum())


def measures(neighbours: NDArray, labels: NDArray | None, previous: NDArray | None) -> dict[str, float]:
    """Every measure of the graph of one stage, by name.

    Those of classes are left out unless every label is known (-1: unknown); the overlap with the graph of the stage
    before is left out without `previous`.
    """
    degree = in_degree(neighbours)
    result = {
        "mutual_share": mutual_share(neighbours),
        "components": num_components(neighbours),
        "mutual_components": num_components(neighbours, mutual=True),
        "in_degree_skewness": skewness(degree),
        "largest_in_degree": int(degree.max()),
        "never_a_neighbour": float((degree == 0).mean()),
    }
    if labels is not None and (labels >= 0).all():
        result["same_class_share"] = same_class_share(neighbours, labels)
        result["neighbour_quality"] = same_class_share(neighbours[:, :10], labels)
        result["nearest_same_class"] = same_class_share(neighbours[:, :1], labels)
    if previous is not None and len(previous) == len(neighbours):
        result["overlap_with_previous"] = float(overlap(neighbours, previous).mean())
    return result
