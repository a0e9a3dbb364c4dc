"""The nodes of a k-nearest-neighbour graph in two dimensions. N nodes, K neighbours.

A map keeps who is near whom. Distances between its islands, their sizes and their places mean nothing.
"""

import numpy as np
import scipy.sparse as sparse
from numpy.typing import NDArray

GATHERING, SPREADING = 100, 200  # steps: with neighbours drawn together, and without
EXAGGERATION = 12.0  # of the affinities while they are
LARGE = 10_000  # nodes from which on repulsion is interpolated on a grid; below, a tree is faster


def affinities(neighbours: NDArray) -> sparse.csr_array:
    """Affinities NxN, symmetric: 1 for two nodes that are neighbours of each other, 1/2 for an edge in one direction alone.

    That all edges count the same is as good as weights by a perplexity (Böhm et al., JMLR 2022), and needs no similarities, nor more
    neighbours than the graph has. A number below 0 in `neighbours` (NxK) is no neighbour.
    """
    n, k = neighbours.shape
    there = neighbours.ravel() >= 0
    rows = np.repeat(np.arange(n), k)[there]
    graph = sparse.csr_array((np.ones(len(rows)), (rows, neighbours.ravel()[there])), shape=(n, n))
    return sparse.csr_array((graph + graph.T) / 2)


def map_positions(neighbours: NDArray, start: NDArray, seed: int) -> NDArray:
    """Places of the nodes, Nx2 float32, by t-SNE of the graph's edges, from the places `start` (Nx2), of which only the arrangement counts.

    Of two graphs of the same nodes, the second may start from the map of the first: what has not changed then stays where it was. Places
    are centred, and the farthest is at most 1 from the middle along an axis. Another machine rounds otherwise and gives another picture.
    Source: van der Maaten and Hinton, JMLR 2008; interpolated repulsion: Linderman et al., Nature Methods 2019; a start that keeps the
    arrangement at large: Kobak and Berens, Nature Communications 2019.
    """
    from openTSNE import TSNEEmbedding, affinity, initialization

    start = np.array(start, np.float64)
    start = np.random.default_rng(seed).normal(size=start.shape) if np.ptp(start[:, 0]) == 0 else start
    start = initialization.jitter(initialization.rescale(start), random_state=seed)
    places = TSNEEmbedding(
        start, affinity.PrecomputedAffinities(affinities(neighbours)),
        negative_gradient_method="fft" if len(start) >= LARGE else "bh", random_state=seed, n_jobs=1,
    )  # fmt: skip
    places.optimize(GATHERING, exaggeration=EXAGGERATION, momentum=0.5, inplace=True)
    places.optimize(SPREADING, momentum=0.8, inplace=True)
    found = np.asarray(places)
    found = found - (found.max(0) + found.min(0)) / 2
    return (found / (np.abs(found).max() or 1.0)).astype(np.float32)
