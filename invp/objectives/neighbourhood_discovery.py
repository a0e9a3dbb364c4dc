"""Anchor Neighbourhood Discovery (Huang et al., ICML 2019): images of low entropy take their nearest row as positive.

N samples, B batch, D dimensions.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from invp.core.contrastive import row_entropies, set_loss
from invp.core.neighbours import ABSENT, knn_graph, similarities
from invp.objectives import instance_discrimination
from invp.objectives._options import steady_within_an_epoch
from invp.plumbing.options import option


@dataclass
class Config:
    """Options of AND; the defaults are the paper's."""

    # Differs from the paper: the learning rate starts anew in no round; it follows `training.schedule` over all of them.
    round_epochs: int = option(200, "epochs of a round", least=1)
    round_share: float = option(0.25, "of all images that become anchors with each round after the first", above=0, most=1)
    momentum: float = option(0.5, "m of the bank", least=0, below=1)
    temperature: float = option(0.1, "tau", above=0)


MEMORY = "bank"  # the buffer with a row an image, of which a neighbour graph can be made


steady = steady_within_an_epoch


class Objective(instance_discrimination.Objective):
    """AND with its memory: the `bank` (NxD), and the `neighbour` (N) of each image, ABSENT where it is no anchor."""

    neighbour: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        options = instance_discrimination.Config("full", momentum=config.momentum, temperature=config.temperature)
        super().__init__(options, encoder, head, num_samples, seed=seed)
        self.round_epochs, self.round_share = config.round_epochs, config.round_share
        self.register_buffer("neighbour", torch.full((num_samples,), ABSENT))

    @torch.no_grad()
    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """At the start of round r = 1, 2, ... makes anchors of the share r x `round_share` of images of lowest entropy."""
        round_number, epoch_of_round = divmod(epoch - 1, self.round_epochs)
        if round_number == 0 or epoch_of_round > 0:
            return
        rows = self.memory()
        count = round(min(1.0, round_number * self.round_share) * len(rows))
        anchors = row_entropies(rows, self.config.temperature).argsort(stable=True)[:count]
        self.neighbour.fill_(ABSENT)
        self.neighbour[anchors] = knn_graph(rows, 1)[1][anchors, 0]

    def loss_and_gradient(self, feature: Tensor, index: Tensor, epoch: int, memory: dict) -> tuple[Tensor, Tensor, Tensor]:
        """-log(p_ii + p_i,neighbour) of anchors and -log p_ii of the others (equations 4 and 5)."""
        similarity = similarities(feature, self.bank)
        partner = self.neighbour[index]
        partner = torch.where(partner == ABSENT, index, partner)
        members = torch.zeros_like(similarity, dtype=torch.bool)
        members.scatter_(1, torch.stack([index, partner], 1), True)
        losses, by_similarity = set_loss(similarity, members, self.config.temperature)
        uniform = math.log(len(self.bank)) - members.sum(1).log().mean()
        return losses, by_similarity @ self.bank, uniform
