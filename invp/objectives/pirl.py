"""PIRL (Misra and van der Maaten, CVPR 2020): an image and its jigsaw share a positive, the image's row of the bank.

B batch, C channels, D dimensions, F features.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.losses import attach_gradient
from invp.core.patches import grid_patches
from invp.core.selection import hashed_indices
from invp.objectives import instance_discrimination
from invp.objectives._options import steady_within_an_epoch
from invp.plumbing.options import option

SIDE = 3  # patches a side
JIGSAW_STREAM = 1 << 33  # keeps the draws of the jigsaw apart from others of the same seed


@dataclass
class Config(instance_discrimination.Config):
    """Options of PIRL; the defaults are the paper's for ImageNet."""

    loss: str = option("nce", "as in instance_discrimination", choices=instance_discrimination.LOSSES)
    num_negatives: int = option(32000, "as in instance_discrimination", least=0)
    weight: float = option(0.5, "lambda, the weight of the jigsaw's term; 0 is instance discrimination", least=0, most=1)
    patch_share: float = option(0.75, "the side of the random crop of a patch, as a share of the patch's side", above=0, most=1)
    patch_size: int = option(0, "the side in pixels to which crops are resized, for tiny images; 0: they are not resized", least=0)


MEMORY = "bank"  # the buffer with a row an image, of which a neighbour graph can be made


steady = steady_within_an_epoch


class Objective(instance_discrimination.Objective):
    """PIRL with its memory, the `bank`, and two linear heads: `patch_head` of a patch, `order_head` of nine in a row.

    Differs: the jigsaw is cut from the image's own augmented view (PyContrast: from the image, by a transform of its own).
    """

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__(config, encoder, head, num_samples, seed=seed)
        width = self.bank.shape[1]
        self.patch_head = nn.Linear(encoder.num_features, width)
        self.order_head = nn.Linear(SIDE * SIDE * width, width)
        for layer in (self.patch_head, self.order_head):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean over the batch of (1 - lambda) L(f(image)) + lambda L(g(jigsaw)), both against the bank (equation 5)."""
        image = F.normalize(self.head(self.encoder(views[0])), dim=1)
        draws = hashed_indices(index, 3 * SIDE * SIDE, 1 << 62, seed=self.seed + JIGSAW_STREAM, epoch=epoch)
        puzzle = F.normalize(self._jigsaw(views[0], draws), dim=1)
        weight, losses, partitions = self.config.weight, [], []
        for feature in (image, puzzle):
            memory: dict[str, Tensor] = {}
            with torch.no_grad():
                terms, gradient, uniform = self.own_loss_and_gradient(feature.detach(), index, epoch, memory)
            losses.append(attach_gradient(feature, terms.mean(), gradient / len(index)))
            partitions += memory.values()
        loss = (1 - weight) * losses[0] + weight * losses[1]
        memory = {"feature": image.detach()}
        if partitions:
            # Differs from the paper: as in the authors' code, nce has one constant Z, the mean over both kinds of feature.
            memory["log_partition"] = torch.logaddexp(*partitions) - math.log(2)
        metrics = {
            "loss_instance": losses[0].detach(),
            "loss_jigsaw": losses[1].detach(),
            "uniform_loss": uniform,
            "feature_std": memory["feature"].std(0, correction=0).mean(),
        }
        return {"loss": loss, "memory": memory, "metrics": metrics}

    def _jigsaw(self, images: Tensor, draws: Tensor) -> Tensor:
        """The embedding of each image's nine patches in a random order: BxD, from images BxCxHxW and draws Bx27."""
        num_patches = SIDE * SIDE
        order, offsets = draws[:, :num_patches].argsort(1), draws[:, num_patches:].reshape(-1, 2)
        pieces = grid_patches(images, offsets, self.config.patch_share, SIDE)
        if self.config.patch_size:
            side = self.config.patch_size
            pieces = F.interpolate(pieces, (side, side), mode="bilinear", align_corners=False)
        features = self.patch_head(self.encoder(pieces))
        features = features.view(len(images), num_patches, -1)
        return self.order_head(features.gather(1, order[:, :, None].expand_as(features)).flatten(1))
