"""Jigsaw (Noroozi and Favaro, ECCV 2016): by which permutation were the nine tiles of an image put in a row?

The permutations are a set of P that are far from each other (`invp/core/permutations.py`). How shortcuts are closed is said in
`invp/objectives/_patches.py`. B images, D dimensions.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from invp.core.permutations import DISTANCES, distant_permutations
from invp.core.selection import hashed_indices
from invp.models.heads import embedding_width
from invp.objectives._classified import classified, mlp
from invp.objectives._options import steady_within_an_epoch
from invp.objectives._patches import MIDDLE, NUM_PATCHES, PatchConfig, PatchTask
from invp.plumbing.options import option

ORDER_STREAM = 6 << 33  # keeps the draws of the permutations apart from others of the same seed


@dataclass
class Config(PatchConfig):
    """Options of the jigsaw; the smaller of the authors' two published sets has 100 permutations, the larger 701."""

    num_permutations: int = option(100, "P, the permutations to tell apart", least=2, most=362880)
    permutation_seed: int = option(0, "of the set of permutations, which is the same for every seed of a run", least=0)
    distance: str = option(
        "max_avg", "by which the next permutation of the set is the farthest: its mean or its least distance", choices=DISTANCES
    )
    grey: float = option(0.3, "the share of images that are grey", least=0, most=1)
    colour_shift: int = option(
        2, "the pixels by which each channel of a tile is moved at most, of images that are not grey", least=0
    )
    hidden: int = option(0, "units of a hidden layer between nine embeddings and the permutations; 0: none", least=0)


steady = steady_within_an_epoch


class Objective(PatchTask):
    """The jigsaw with its `permutations` (Px9) and its `classifier` of nine of the head's outputs. An image's feature is of its middle tile.

    Differs: one puzzle of each image in a step, a new one in each epoch (paper: many, over all epochs).
    Differs: tiles are cut from the augmented view (paper: from a crop of 225 of 256 pixels).
    """

    permutations: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__(config, encoder, head, seed=seed)
        chosen = distant_permutations(config.num_permutations, NUM_PATCHES, seed=config.permutation_seed, distance=config.distance)
        self.register_buffer("permutations", chosen)
        hidden = [config.hidden] if config.hidden else []
        self.classifier = mlp(NUM_PATCHES * embedding_width(encoder, head), *hidden, config.num_permutations)

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean over the batch of -log softmax(h([f(tile s(1)); ...; f(tile s(9))]))_s, s a random permutation for each image."""
        embeddings = self.embeddings(views[0], index, epoch)
        labels = hashed_indices(index, 1, len(self.permutations), seed=self.seed + ORDER_STREAM, epoch=epoch)[:, 0]
        order = self.permutations[labels][:, :, None].expand_as(embeddings)
        return classified(self.classifier(embeddings.gather(1, order).flatten(1)), labels, embeddings[:, MIDDLE])
