"""ReSSL (Zheng et al., NeurIPS 2021) and ISD (Tejankar et al., ICCV 2021): views are alike to earlier images in the same degree.

The similarities of the momentum encoder's view to all keys of a queue, as a softmax, are what those of the other view are to
predict: every key is a neighbour, more or less. The first view is that of the trained network, the second the momentum encoder's,
which ReSSL augments weakly: an experiment gives them kinds in its section `views`. ISD has a predictor, and two views of one kind.

Evaluated is the trained network, as with MoCo, and not the momentum encoder.

B batch over all ranks, b that of one, D dimensions, K keys in the queue.
"""

import math
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.contrastive import relation_loss
from invp.models.encoders import has_batch_norm
from invp.models.heads import build_predictor
from invp.objectives import moco
from invp.objectives._options import require, steady_within_an_epoch
from invp.objectives._queue import QueueOfKeys
from invp.plumbing.options import option


@dataclass
class Config(moco.Config):
    """Options of ReSSL and ISD; the defaults are ReSSL's for ImageNet."""

    num_keys: int = option(131072, "K, keys of earlier batches; ISD has 128000", least=1)
    temperature: float = option(0.1, "tau of the trained network; ISD's command for ResNet-18 has 0.02 twice", above=0)
    key_temperature: float = option(0.04, "tau of the momentum encoder, at most the other; ISD has 0.01", above=0)
    predictor: int = option(0, "hidden units of ISD's predictor; 0: none, as in ReSSL", least=0)


steady = steady_within_an_epoch


class Objective(QueueOfKeys):
    """ReSSL or ISD with its momentum encoder and its queue.

    Differs: the loss of ISD is the cross-entropy too, which is its divergence plus the entropy of the momentum encoder's softmax:
    the gradient is the same. The head has no batch normalisation, nor has the predictor if the encoder has none.
    """

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        # A target flatter than the prediction would draw all images to one answer.
        require(
            config.key_temperature <= config.temperature, config, "key_temperature", f"at most temperature ({config.temperature})"
        )
        super().__init__(config, encoder, head, num_samples, seed=seed)
        self.predictor = build_predictor(self.queue.shape[1], config.predictor, has_batch_norm(encoder))

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean cross-entropy of the two softmaxes over the queue of earlier keys. Only queries carry a gradient."""
        query = F.normalize(self.predictor(self.head(self.encoder(views[0]))), dim=1)
        key = self.keys(views[1], index, epoch)
        loss = relation_loss(query, key, self.queue, self.config.temperature, self.config.key_temperature).mean()
        metrics = {
            "loss_instance": loss.detach(),
            "uniform_loss": loss.new_full((), math.log(len(self.queue))),
            "feature_std": query.detach().std(0, correction=0).mean(),
        }
        return {"loss": loss, "memory": {"feature": query.detach(), "key": key}, "metrics": metrics}
