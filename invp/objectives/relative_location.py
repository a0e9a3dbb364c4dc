"""Relative patch location (Doersch, Gupta and Efros, ICCV 2015): where does a patch lie, seen from the one in the middle?

The nine patches of an image are numbered row by row, as are the eight labels: 0 1 2 / 3 . 4 / 5 6 7. How shortcuts are closed is said in
`invp/objectives/_patches.py`. B images, D dimensions.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from invp.models.heads import embedding_width
from invp.objectives._classified import classified, mlp
from invp.objectives._options import steady_within_an_epoch
from invp.objectives._patches import MIDDLE, NUM_PATCHES, PatchConfig, PatchTask
from invp.plumbing.options import option

NUM_PLACES = NUM_PATCHES - 1


@dataclass
class Config(PatchConfig):
    """Options of relative patch location; the defaults are those of Kolesnikov et al. (CVPR 2019) for ResNets, but for `hidden`."""

    hidden: int = option(4096, "units of each of two hidden layers between a pair of embeddings and the eight places", least=1)


steady = steady_within_an_epoch


class Objective(PatchTask):
    """Relative patch location with its `classifier` of pairs of the head's outputs. The feature of an image is of its middle patch.

    Differs: all eight pairs of an image are in the batch, the middle one first (paper: pairs from anywhere in an image, in both orders).
    Differs: a patch lies anywhere in its cell of a 3 x 3 grid (paper: a fixed gap of half a patch, and up to 7 pixels of jitter).
    Differs: no patch is made coarse by resizing it down and up again. Dropped channels are 0 (paper: faint noise).
    Differs: the classifier has no normalisation (paper: batch normalisation without scale and shift).
    """

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__(config, encoder, head, seed=seed)
        self.classifier = mlp(2 * embedding_width(encoder, head), config.hidden, config.hidden, NUM_PLACES)

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean over the batch and the places k of -log softmax(h([f(middle); f(patch k)]))_k."""
        embeddings = self.embeddings(views[0], index, epoch)
        middle, others = embeddings[:, MIDDLE], torch.cat([embeddings[:, :MIDDLE], embeddings[:, MIDDLE + 1 :]], 1)
        pairs = torch.cat([middle[:, None].expand_as(others), others], 2).flatten(0, 1)
        labels = torch.arange(NUM_PLACES, device=pairs.device).repeat(len(index))
        return classified(self.classifier(pairs), labels, middle)
