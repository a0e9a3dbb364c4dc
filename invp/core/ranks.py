"""What can be measured of features without labels: how many dimensions they use, and how they lie on the sphere.

N rows, D dimensions, n images, q views of each.
"""

import numpy as np
from numpy.typing import NDArray

ROWS = 25_600  # that RankMe is measured on, at most, as published
SMALL = 1e-7  # is added to every share, as published for RankMe
WITHIN = 1e-4  # is added to the variance within images in every direction
BLOCK = 1024  # rows whose similarities are in memory at a time


def effective_number(sizes: NDArray) -> float:
    """exp(-sum p log p) of the sizes' shares p = size / sum + 1e-7: as many as there are if they are equal, 1 if one has all."""
    shares = sizes / max(sizes.sum(), np.finfo(np.float64).tiny) + SMALL
    return float(np.exp(-(shares * np.log(shares)).sum()))


def rankme(rows: NDArray) -> float:
    """The effective number of the singular values of the rows (NxD), which are not centred: from 1 to min(N, D).

    Source: RankMe (Garrido et al., ICML 2023), equation 1. The singular values are found by the DxD products in 64 bits.
    """
    product = np.zeros((rows.shape[1],) * 2)
    for start in range(0, len(rows), BLOCK):
        part = rows[start : start + BLOCK].astype(np.float64)
        product += part.T @ part
    return effective_number(np.sqrt(np.linalg.eigvalsh(product).clip(min=0))[-min(rows.shape) :])


def alignment(first: NDArray, second: NDArray) -> float:
    """The mean squared distance of the unit rows of two views of the same images (NxD each): 0 if all pairs are equal, at most 4.

    Source: Wang and Isola, ICML 2020, alpha = 2.
    """
    return float(((first.astype(np.float64) - second) ** 2).sum(1).mean())


def uniformity(rows: NDArray) -> float:
    """The logarithm of the mean of exp(-2 |x - y|^2) over all pairs of unit rows (NxD): 0 if all are equal, less the more they spread.

    Source: Wang and Isola, ICML 2020, t = 2.
    """
    total = 0.0
    for start in range(0, len(rows), BLOCK):
        near = np.exp(4 * (rows[start : start + BLOCK] @ rows.T - 1))  # |x - y|^2 = 2 - 2 x.y
        own = np.arange(len(near))
        near[own, start + own] = 0
        total += near.sum(dtype=np.float64)
    return float(np.log(total / (len(rows) * (len(rows) - 1))))


def lidar(views: NDArray) -> float:
    """The effective number of directions that tell images apart by their views (n x q x D), every image a class: from 1 to min(D, n - 1).

    It is that of the eigenvalues of W^-1/2 B W^-1/2, B the covariance of the images' means and W that of views around them, to which 1e-4
    is added in every direction. Source: LiDAR (Thilak et al., ICLR 2024).
    """
    images, each, dimensions = views.shape
    means = views.mean(1, dtype=np.float64)
    around = (views - means[:, None]).reshape(-1, dimensions)
    within = around.T @ around / (images * (each - 1)) + WITHIN * np.eye(dimensions)
    centred = means - means.mean(0)
    variance, vectors = np.linalg.eigh(within)
    scaled = centred @ (vectors / np.sqrt(variance))
    return effective_number(np.linalg.eigvalsh(scaled.T @ scaled / (images - 1)).clip(min=0))
