"""Mean Shift (Koohpayegani et al., ICCV 2021): an image is drawn to the nearest neighbours of its other view in a queue of keys.

With `mix` it is MNN (Mixed Nearest Neighbors, 2023), whose neighbours are mixed with the other view. The first view is the one that
is predicted from, of strong augmentation; the second, of weak augmentation, is the target: an experiment gives them kinds in its
section `views`. Nothing pushes images apart: what keeps features from becoming equal are the predictor and the slow target, as in
BYOL, which Mean Shift is with k = 1. It has no bound of its loss by which the loop could tell a collapse: see `feature_std`.

Evaluated is the trained network, not the momentum encoder; the authors' linear evaluation loads the weights of a bare network and
does not say of which.

B batch over all ranks, b that of one, D dimensions, K keys in the queue.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.neighbours import in_fp32, top_k
from invp.core.selection import hashed_uniform, selected_similarities
from invp.models.encoders import has_batch_norm
from invp.models.heads import build_predictor
from invp.objectives._options import require, steady_within_an_epoch
from invp.objectives._queue import QueueOfKeys
from invp.plumbing.options import option
from invp.training.distributed import gather

MIX_STREAM = 2 << 32  # keeps the draws of the mixtures apart from others of the same seed


@dataclass
class Config:
    """Options of Mean Shift; the defaults are the authors' for ImageNet with a ResNet-50."""

    k: int = option(5, "nearest neighbours of a target, itself among them; the authors' command has 10", least=1)
    num_keys: int = option(128000, "K, keys of earlier batches and of this one", least=1)
    momentum: float = option(0.99, "m of the momentum encoder", least=0, most=1)
    hidden: int = option(4096, "hidden units of the predictor: 2 F", least=1)
    norm_group: int = option(64, "shuffled images that share the momentum encoder's batch statistics; 0: all, unshuffled", least=0)
    symmetric: bool = option(False, "whether the views change places too, and the loss is the mean of both ways; MNN has it")
    mix: bool = option(False, "MNN: draw to the target, and to mixtures of it and its neighbours among earlier keys")


steady = steady_within_an_epoch


class Objective(QueueOfKeys):
    """Mean Shift with its predictor, its momentum encoder and its queue.

    Differs: the head has no batch normalisation, nor has the predictor if the encoder has none. With `mix` each image has a share
    of its own (authors: one a step); mixtures are not normalised, as in the authors' commands.
    """

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        require(config.k <= config.num_keys, config, "k", f"at most num_keys ({config.num_keys})")
        super().__init__(config, encoder, head, num_samples, seed=seed)
        self.predictor = build_predictor(self.queue.shape[1], config.hidden, has_batch_norm(encoder))

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean distance of predictions and their targets, over one way or both; only predictions carry a gradient."""
        ways = [(views[0], views[1]), (views[1], views[0])] if self.config.symmetric else [(views[0], views[1])]
        losses, predictions, keys = [], [], []
        for seen, target in ways:
            predictions.append(F.normalize(self.predictor(self.head(self.encoder(seen))), dim=1))
            keys.append(self.keys(target, index, epoch))
            losses.append(self.distance(predictions[-1], keys[-1], index, epoch).mean())
        loss = torch.stack(losses).mean()
        metrics = {"feature_std": predictions[0].detach().std(0, correction=0).mean()}
        return {"loss": loss, "memory": {"key": keys[0]}, "metrics": metrics}

    def distance(self, prediction: Tensor, key: Tensor, index: Tensor, epoch: int) -> Tensor:
        """What is to be small (b) of each prediction (bxD) and its target (bxD): 2 - 2 u.z, the mean over neighbours z.

        With `mix` it is that of the target itself and that of the mixtures share z + (1 - share) target, added.
        """
        if not self.config.mix:
            return 2 - 2 * self.to_nearest(prediction, key, self.with_keys(gather(key)))
        own, near = (prediction * key).sum(1), self.to_nearest(prediction, key, self.queue)
        share = hashed_uniform(index, 1, self.seed + MIX_STREAM, epoch)[:, 0].to(own.dtype)
        return (2 - 2 * own) + (2 - 2 * (share * near + (1 - share) * own))

    def to_nearest(self, prediction: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        """The mean similarity (b) of each prediction to the k rows of the queue (KxD) that are nearest to its key."""
        with torch.no_grad(), in_fp32():
            nearest = top_k(key, queue, self.config.k)[1]
        return selected_similarities(prediction, queue, nearest).mean(1)

    def with_keys(self, keys: Tensor) -> Tensor:
        """The queue (KxD) with the batch's keys (BxD) in place of the oldest, where each is its own nearest neighbour."""
        require(len(keys) <= len(self.queue), self.config, "num_keys", f"at least the {len(keys)} images of a batch")
        return self.queue.index_copy(0, self.oldest(len(keys)), keys.to(self.queue.dtype))
