"""SCAN (Van Gansbeke et al., ECCV 2020): a softmax head on frozen features that puts an image and its nearest neighbours into one cluster.

N training images, Q test images, F numbers of each, k neighbours, B images of a batch, C clusters: as many as there are classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.selection import mixed_seed
from invp.data.batches import epoch_order
from invp.data.tables import BLOCK
from invp.evals import clusters, linear
from invp.evals._graph_inputs import GraphInputs
from invp.evals._inputs import FeatureInputs
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

NEEDS = "graph"
METRICS = clusters.METRICS
SMALL = 1e-8  # a cluster's mean share counts as so much at least: the entropy's derivative has no end at 0
DIFFERS = (
    "a linear head on frozen features of whole images or central crops (published: the network is trained with it, on augmented images)",
    "features are standardised by the training images (published: as they are)",
    "neighbours are those of the stage's graph, by default of the objective's own rows (published: of features of the pretrained network)",
    "10 neighbours by default, which a graph has by default (published: 20)",
    "of `tries` beginnings that of the smallest loss in the last epoch counts (published: not known to us)",
    "an epoch's last, smaller batch is dropped (published: not said)",
)
DIFFERS_LABELLED = (
    "`self_label_epochs`: images as they are learn their own labels (published: strongly augmented ones, with the network)",
)


@dataclass
class Config:
    """A head with a cluster for each class, trained by Adam on the stage's neighbour graph."""

    k: int = option(10, "nearest of each training image in the graph that are its neighbours; at most graph.k", least=1)
    entropy: float = option(5.0, "lambda: how much the clusters' equal sizes count", least=0)
    learning_rate: float = option(1e-4, "of Adam", above=0)
    weight_decay: float = option(1e-4, "of Adam", least=0)
    batch_size: int = option(128, "images in a step; all, if there are fewer, which the protocol says", least=2)
    epochs: int = option(50, "of the training", least=1)
    tries: int = option(5, "seeded beginnings of the head; that of the smallest loss in the last epoch counts", least=1)
    self_label_epochs: int = option(
        0, "after these, in which an image that is surely of a cluster is its example; 0: none", least=0
    )
    confidence: float = option(0.99, "share of an image's cluster from which on it is an example", above=0, below=1)
    features: str = option("feature", "feature: the encoder's output; embedding: the head's", choices=("feature", "embedding"))


def memory(config: Config, inputs: FeatureInputs) -> int:
    """Bytes: all features, unless they go to a GPU, and two blocks of them; the neighbours."""
    train, test = (getattr(part, config.features) for part in (inputs.train, inputs.test))
    rows = 0 if torch.cuda.is_available() else len(train) + len(test)
    return 4 * train.shape[1] * (rows + 2 * BLOCK) + 8 * len(train) * config.k


def agreement_loss(scores: Tensor, others: Tensor, entropy: float) -> Tensor:
    """- mean_i log <p_i, q_i> - lambda H(mean_i p_i), with the clusters' shares p of images and q of a neighbour of each, by scores BxC.

    Source: equation 2 of the paper. The entropy H of the mean shares is largest, log C, where all clusters have as much.
    """
    shares = scores.log_softmax(1)
    agreement = torch.logsumexp(shares + others.log_softmax(1), 1)
    return -agreement.mean() - entropy * torch.special.entr(shares.exp().mean(0).clamp_min(SMALL)).sum()


def own_labels_loss(scores: Tensor, confidence: float) -> Tensor | None:
    """The cross-entropy of images (scores BxC) that have at least `confidence` of a cluster, with that cluster for a label; None without any.

    Every cluster that has such images counts the same: the mean over clusters of the means over their images.
    """
    shares, own = scores.detach().softmax(1).max(1)
    sure = shares >= confidence
    if not sure.any():
        return None
    counts = own[sure].bincount(minlength=scores.shape[1])
    return F.cross_entropy(scores[sure], own[sure], weight=1 / counts.clamp_min(1).to(scores.dtype))


def batches_of(config: Config, count: int, seed: int, epoch: int) -> tuple[Tensor, ...]:
    """The numbers of the images of each batch of an epoch; the last, smaller one is dropped."""
    size = min(config.batch_size, count)
    return epoch_order(count, seed, epoch)[: count // size * size].split(size)


def trained(config: Config, rows: Tensor, neighbours: Tensor, num_clusters: int, seed: int) -> tuple[nn.Linear, list[float]]:
    """The head after the last epoch, of features NxF and the numbers of their neighbours Nxk, and the mean loss of each epoch.

    In every step each image of the batch meets one of its neighbours. All that is random is drawn by the seed.
    """
    generator = torch.Generator().manual_seed(mixed_seed(seed))
    head = nn.Linear(rows.shape[1], num_clusters)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.uniform_(-1, 1, generator=generator).mul_(rows.shape[1] ** -0.5)
    head.to(rows.device)
    optimizer = torch.optim.Adam(head.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    losses = []
    for epoch in range(1, config.epochs + 1):
        met = neighbours.gather(1, torch.randint(neighbours.shape[1], (len(rows), 1), generator=generator))[:, 0]
        found = []
        for index in batches_of(config, len(rows), seed, epoch):
            images, others = (head(rows[each.to(rows.device)]) for each in (index, met[index]))
            loss = agreement_loss(images, others, config.entropy)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.detach())
        losses.append(float(torch.stack(found).mean()))
        if not np.isfinite(losses[-1]):
            raise UserError(f"the loss was no finite number in epoch {epoch}: lower learning_rate ({config.learning_rate:g})")
    return head, losses


def label_itself(config: Config, head: nn.Linear, rows: Tensor, seed: int) -> None:
    """Trains the head further on the images (features NxF) that are surely of a cluster; a step without any changes nothing."""
    optimizer = torch.optim.Adam(head.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    for epoch in range(config.epochs + 1, config.epochs + config.self_label_epochs + 1):
        for index in batches_of(config, len(rows), seed, epoch):
            loss = own_labels_loss(head(rows[index.to(rows.device)]), config.confidence)
            if loss is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def evaluate(config: Config, inputs: GraphInputs, *, seed: int, device: str) -> dict:
    """Accuracy in % under the best assignment of clusters to classes, normalised mutual information and adjusted Rand index of test images."""
    train, test = (linear.on_device(getattr(part, config.features), device) for part in (inputs.train, inputs.test))
    mean, deviation = train.mean(0), train.std(0) + 1e-6
    for rows in (train, test):
        rows.sub_(mean).div_(deviation)
    num_clusters = len(inputs.classes)
    neighbours = torch.from_numpy(inputs.neighbours[:, : config.k].copy())
    seeds = range(seed * config.tries, (seed + 1) * config.tries)
    head, losses = min((trained(config, train, neighbours, num_clusters, each) for each in seeds), key=lambda made: made[1][-1])
    label_itself(config, head, train, seed)
    with torch.no_grad():
        own = head(test).argmax(1).cpu().numpy()
        sure = float((head(train).softmax(1).max(1).values >= config.confidence).float().mean())
    metrics, details = clusters.measured(own, inputs.test.labels, inputs.classes)
    labelling = f"then {config.self_label_epochs} epochs on images of at least {config.confidence:g} of a cluster"
    return {
        "metrics": metrics,
        "protocol": {
            "kind": f"SCAN on frozen features: a softmax head of {num_clusters} clusters, as many as classes; no label is used",
            "features": "encoder's pooled output" if config.features == "feature" else "head's output",
            "loss": f"- mean log of an image's and a neighbour's agreement - {config.entropy:g} times the entropy of the clusters' mean shares",
            "neighbours": f"the {config.k} nearest of each of {len(train)} training images in the graph of the stage",
            "optimiser": f"Adam, rate {config.learning_rate:g}, weight decay {config.weight_decay:g}",
            "epochs": f"{config.epochs}" + (f", {labelling}" if config.self_label_epochs else ""),
            "batch_size": min(config.batch_size, len(train)),
            "choice": f"of {config.tries} beginnings that of the smallest loss on the training images; last epoch",
            "assignment": "each cluster is given one class, so that most test images are right: the measure's only use of labels",
            "differs": "; ".join(DIFFERS + (DIFFERS_LABELLED if config.self_label_epochs else ())),
            "test_images": len(test),
            "crop": "whole image, of photographs the central crop, no augmentation",
        },
        "details": {**details, "sure": sure, "loss": losses},
    }
