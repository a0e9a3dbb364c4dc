"""What the tasks share that classify images or patches by a label that is made of the image itself. B images, n labels, D dimensions."""

import math

import torch.nn.functional as F
from torch import Tensor, nn


def mlp(*widths: int) -> nn.Sequential:
    """Linear layers from each width to the next, with ReLU between them."""
    layers: list[nn.Module] = []
    for into, out in zip(widths[:-1], widths[1:], strict=True):
        layers += [nn.Linear(into, out), nn.ReLU()]
        nn.init.kaiming_normal_(layers[-2].weight)
        nn.init.zeros_(layers[-2].bias)
    nn.init.xavier_uniform_(layers[-2].weight)
    return nn.Sequential(*layers[:-1])


def classified(logits: Tensor, labels: Tensor, embeddings: Tensor) -> dict:
    """What an objective returns: the mean cross-entropy of logits (?xn) against labels (?), and the images' embeddings (BxD) as unit rows.

    Guessing gives log n.
    """
    loss = F.cross_entropy(logits, labels)
    feature = F.normalize(embeddings.detach(), dim=1)
    metrics = {
        "loss_instance": loss.detach(),
        "uniform_loss": loss.new_full((), math.log(logits.shape[1])),
        "pretext_accuracy": 100 * (logits.detach().argmax(1) == labels).float().mean(),
        "feature_std": feature.std(0, correction=0).mean(),
    }
    return {"loss": loss, "memory": {"feature": feature}, "metrics": metrics}
