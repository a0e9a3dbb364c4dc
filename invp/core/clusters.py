"""k-means, by faiss. N rows, D dimensions, K clusters."""

from typing import NamedTuple

import torch
from torch import Tensor


class Clusters(NamedTuple):
    """What k-means found for N rows."""

    centroids: Tensor  # KxD, not normalised
    cluster: Tensor  # N int64: the cluster of each row
    distance: Tensor  # N: the distance of each row to its centroid


def kmeans(rows: Tensor, num_clusters: int, *, seed: int, iterations: int = 20) -> Clusters:
    """The k-means clusters of the rows (NxD), a function of rows and seed alone. N must be at least `num_clusters`.

    It runs on a GPU if the rows lie there and faiss can use it. Beyond 256 rows a cluster, faiss fits the centroids to
    a sample of the rows.
    """
    import faiss  # an optional dependency

    gpu = rows.is_cuda and faiss.get_num_gpus() > 0
    data = rows.detach().float().cpu().numpy()
    fit = faiss.Kmeans(data.shape[1], num_clusters, niter=iterations, seed=seed, gpu=gpu, min_points_per_centroid=1, verbose=False)
    fit.train(data)
    squared, cluster = fit.index.search(data, 1)
    distance = torch.from_numpy(squared[:, 0]).clamp(min=0).sqrt()
    tensors = torch.from_numpy(fit.centroids), torch.from_numpy(cluster[:, 0]), distance
    return Clusters(*(tensor.to(rows.device) for tensor in tensors))
