"""k-means of all processes together. N rows, D dimensions, K clusters."""

import torch
from torch import Tensor

from invp.core.clusters import Clusters, kmeans
from invp.training.distributed import from_first, rank_and_world_size
from invp.training.stop import leave_if_asked


def shared_kmeans(rows: Tensor, num_clusters: int, *, seed: int, iterations: int) -> Clusters:
    """The clusters of the rows (NxD), which the first process finds on its one device and gives to the others.

    Every process calls it. Raises Left if the training was asked to save and leave.
    """
    leave_if_asked()
    if rank_and_world_size()[0] == 0:
        found = kmeans(rows, num_clusters, seed=seed, iterations=iterations)
    else:
        shapes = (num_clusters, rows.shape[1]), (len(rows),), (len(rows),)
        types = torch.float32, torch.int64, torch.float32
        found = Clusters(*(rows.new_empty(shape, dtype=dtype) for shape, dtype in zip(shapes, types, strict=True)))
    return Clusters(*map(from_first, found))
