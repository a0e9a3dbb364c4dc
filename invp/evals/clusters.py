"""k-means clusters of unit features against the classes: what of the classes there is to be found without any label.

N training images, Q test images, F numbers of each, K clusters: as many as there are classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from invp.core.clusters import Clusters, kmeans
from invp.core.metrics import accuracy, accuracy_by_class, confusion_matrix
from invp.data.tables import blocks, unit_rows
from invp.evals._inputs import FeatureInputs
from invp.plumbing.errors import UserError
from invp.plumbing.metrics import PERCENT, Metric
from invp.plumbing.options import option

NEEDS = "features"
GPU = False
METRICS = {"accuracy": PERCENT, "nmi": Metric("", "higher"), "ari": Metric("", "higher")}
SEEN = 256  # training images a cluster that k-means sees, at most: as many as faiss would draw
DIFFERS = (
    "clusters are those of k-means on frozen features (published: of a network that is trained further for it)",
    f"k-means sees at most {SEEN} seeded training images a cluster (published: all)",
)


@dataclass
class Config:
    """k-means of the training images' features, and every test image in the cluster of the nearest centroid."""

    tries: int = option(5, "seeded beginnings of k-means; that of the smallest squared distances to centroids counts", least=1)
    iterations: int = option(20, "of k-means", least=1)
    features: str = option("embedding", "embedding: the head's output; feature: the encoder's", choices=("embedding", "feature"))


def memory(config: Config, inputs: FeatureInputs) -> int:
    """Bytes: the training images that k-means sees, twice while they are read, and the test images."""
    train, test = (getattr(part, config.features) for part in (inputs.train, inputs.test))
    return 4 * train.shape[1] * (2 * min(len(train), SEEN * len(inputs.classes)) + len(test))


def drawn(rows, count: int, seed: int) -> np.ndarray:
    """At most `count` of the rows (NxF), drawn by the seed, in their order, divided by their lengths."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(rows))[:count])
    parts = [part[chosen[(chosen >= at.start) & (chosen < at.stop)] - at.start] for at, part in blocks(rows)]
    return unit_rows(np.concatenate(parts))


def best_kmeans(rows: torch.Tensor, num_clusters: int, config: Config, seed: int) -> Clusters:
    """Of several beginnings the clusters with the smallest sum of squared distances to their centroids; of equal ones the first."""
    seeds = range(seed * config.tries, (seed + 1) * config.tries)
    found = (kmeans(rows, num_clusters, seed=each, iterations=config.iterations) for each in seeds)
    return min(found, key=lambda clusters: float(clusters.distance.double().square().sum()))


def classes_of_clusters(clusters: np.ndarray, labels: np.ndarray, num_classes: int) -> np.ndarray:
    """The class that each of C clusters is given, each class once, so that most images (clusters and labels Q) are right: C."""
    counts = confusion_matrix(labels, clusters, num_classes)  # a row a cluster
    return linear_sum_assignment(counts, maximize=True)[1]


def measured(clusters: np.ndarray, labels: np.ndarray, classes: list[str]) -> tuple[dict, dict]:
    """Metrics and details of images by the numbers of their clusters and of their classes, Q each; there are as many clusters as classes."""
    answers = classes_of_clusters(clusters, labels, len(classes))[clusters]
    confusion = confusion_matrix(answers, labels, len(classes))
    metrics = {
        "accuracy": accuracy(answers == labels),
        "nmi": float(normalized_mutual_info_score(labels, clusters)),
        "ari": float(adjusted_rand_score(labels, clusters)),
    }
    details = {
        "classes": classes,
        "cluster_sizes": np.bincount(clusters, minlength=len(classes)).tolist(),
        "confusion": confusion.tolist(),
        "accuracy_by_class": accuracy_by_class(confusion),
    }
    return metrics, details


def evaluate(config: Config, inputs: FeatureInputs, *, seed: int, device: str) -> dict:
    """Accuracy in % under the best assignment of clusters to classes, normalised mutual information (by the arithmetic mean of the
    entropies) and adjusted Rand index, of the test images."""
    train, test = (getattr(part, config.features) for part in (inputs.train, inputs.test))
    num_classes, truth = len(inputs.classes), inputs.test.labels
    if len(train) < num_classes:
        raise UserError(f"there are {len(train)} training images, too few for {num_classes} clusters")
    rows = torch.from_numpy(drawn(train, SEEN * num_classes, seed))
    fit = best_kmeans(rows, num_classes, config, seed)
    nearest = [torch.cdist(part, fit.centroids).argmin(1) for part in torch.from_numpy(unit_rows(test)).split(4096)]
    clusters = torch.cat(nearest).numpy()
    metrics, details = measured(clusters, truth, inputs.classes)
    return {
        "metrics": metrics,
        "protocol": {
            "kind": f"k-means of L2-normalised features, {num_classes} clusters, as many as classes; no label is used",
            "features": "head's output" if config.features == "embedding" else "encoder's pooled output",
            "clustered": f"{len(rows)} of {len(train)} training images; a test image is of the nearest centroid's cluster",
            "choice": f"of {config.tries} beginnings that of the smallest squared distances on the training images",
            "assignment": "each cluster is given one class, so that most test images are right: the measure's only use of labels",
            "differs": "; ".join(DIFFERS),
            "test_images": len(test),
            "crop": "whole image, of photographs the central crop, no augmentation",
        },
        "details": details,
    }
