"""k-means, by faiss. N rows, D dimensions, K clusters."""

from typing import NamedTuple

import torch
from torch import Tensor


class Clusters(NamedTuple):
    """Centroids (KxD, not normalised), the cluster of each row (N, int64), its distance to that centroid (N)."""

    centroids: Tensor
    cluster: Tensor
    distance: Tensor


def kmeans(rows: Tensor, num_clusters: int, *, seed: int, iterations: int = 20) -> Clusters:
    """The k-means clusters of the rows (NxD), a function of rows and seed; on a GPU where the rows and faiss are there.

    Needs N >= K. Of more than 256 rows a cluster, faiss fits the centroids to a sample.
    """
    import faiss  # an optional dependency

    gpu = rows.is_cuda and faiss.get_num_gpus() > 0
    data = rows.detach().float().cpu().numpy()
    fit = faiss.Kmeans(data.shape[1], num_clusters, niter=iterations, seed=seed, gpu=gpu, min_points_per_centroid=1, verbose=False)
    fit.train(data)
    squared, cluster = fit.index.search(data, 1)
    distance = torch.from_numpy(squared[:, 0]).clamp(min=0).sqrt()
    values = torch.from_numpy(fit.centroids), torch.from_numpy(cluster[:, 0]), distance
    return Clusters(*(value.to(rows.device) for value in values))
