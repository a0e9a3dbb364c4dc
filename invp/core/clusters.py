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

    It runs on the rows' own GPU if faiss can use it. Beyond 256 rows a cluster, faiss fits the centroids to a sample of the
    rows.
    """
    import faiss  # an optional dependency

    data = rows.detach().float().cpu().numpy()
    dimensions = data.shape[1]
    index = faiss.IndexFlatL2(dimensions)
    if rows.is_cuda and faiss.get_num_gpus() > 0:  # faiss.Kmeans would take all GPUs that there are
        index = faiss.index_cpu_to_gpu(faiss.StandardGpuResources(), rows.device.index or 0, index)
    options = faiss.ClusteringParameters()
    options.niter, options.seed, options.min_points_per_centroid = iterations, seed, 1
    fit = faiss.Clustering(dimensions, num_clusters, options)
    fit.train(data, index)
    centroids = faiss.vector_float_to_array(fit.centroids).reshape(num_clusters, dimensions)
    squared, cluster = index.search(data, 1)
    distance = torch.from_numpy(squared[:, 0]).clamp(min=0).sqrt()
    tensors = torch.from_numpy(centroids), torch.from_numpy(cluster[:, 0]), distance
    return Clusters(*(tensor.to(rows.device) for tensor in tensors))
