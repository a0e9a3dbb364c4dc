"""DINO (Caron et al., ICCV 2021): the student's answer to every view is to be the teacher's to another, large view.

With `patch_weight` it is iBOT too (Zhou et al., ICLR 2022): the student answers for patches that are hidden from it. `koleo` and
`centring: sinkhorn` are DINOv2's (Oquab et al., 2023). The teacher, a slow average of the student, is `encoder` and `head`: evaluations see
it. What keeps answers from becoming equal are two opposites: subtracting the centre of the teacher's scores, and its low temperature.

b images of one process, D dimensions, F features, K prototypes, L patches of a large view, V views.
Differs: hidden layers of the head begin as this project's heads do; all gradients are clipped together (authors: each tensor's).
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.codes import hidden_prediction, sinkhorn, swapped_prediction
from invp.core.spread import koleo
from invp.models.heads import embedding_width
from invp.objectives._batch import own_rows
from invp.objectives._crops import LARGE, features_of
from invp.objectives._hidden import hidden_blocks
from invp.objectives._momentum import move_towards, rising_momentum
from invp.objectives._options import require_patches
from invp.plumbing.options import option
from invp.training.distributed import gather

MULTI_CROP = True
PROGRESS = True  # of the teacher's momentum
ROUNDS = 3  # of Sinkhorn's scaling
SHARE, CHANCE = (0.1, 0.5), 0.5  # of the patches that are hidden, and of the images of which some are


@dataclass
class Config:
    """Options of DINO; the defaults are the paper's for ImageNet, but for small views, of which it has eight. Its head is an MLP of three
    layers, gelu, 2048 units and 256 dimensions."""

    num_prototypes: int = option(65536, "K; small sets need fewer", least=2)
    temperature: float = option(0.1, "tau of the student", above=0)
    teacher_temperature: float = option(0.04, "tau of the teacher; the authors' longer trainings end with 0.07", above=0)
    warmup_temperature: float = option(
        0.04, "tau of the teacher in the first epoch, from which it goes to the other in a line", above=0
    )
    warmup_epochs: int = option(0, "epochs of that line; the authors' longer trainings have 30", least=0)
    centring: str = option("centre", "how the teacher's answers are kept apart: see above", choices=("centre", "sinkhorn"))
    centre_momentum: float = option(0.9, "of the centre of the teacher's scores", least=0, below=1)
    momentum: float = option(0.996, "m of the teacher at the start; it rises to 1 as half a cosine", least=0, most=1)
    num_small: int = option(0, "views beside the two that the teacher sees; the section `views` says how small", least=0)
    frozen_epochs: int = option(1, "first epochs in which the student's prototypes stay", least=0)
    learned_gain: bool = option(False, "whether the length of a prototype is learned; the authors do so for ViT-S")
    patch_weight: float = option(0.0, "weight of iBOT's loss of hidden patches, 1 there; 0: none", least=0)
    koleo: float = option(0.0, "weight of KoLeo, which spreads the features of a batch; DINOv2 has 0.1", least=0)


def num_views(config: Config) -> int:
    """The views of each image in a step."""
    return LARGE + config.num_small


def check_experiment(experiment: dict) -> None:
    """UserError for hidden patches of an encoder that has none."""
    if experiment["objective"].get("patch_weight"):
        require_patches(experiment)


def steady(config: Config, epoch: int) -> tuple:
    """The teacher's temperature, whether prototypes stay, and the epoch itself where patches are drawn to be hidden."""
    return (teacher_temperature(config, epoch), epoch <= config.frozen_epochs, epoch if config.patch_weight else None)


def teacher_temperature(config: Config, epoch: int) -> float:
    """tau of the teacher in an epoch, counted from 1."""
    start, end, epochs = config.warmup_temperature, config.teacher_temperature, config.warmup_epochs
    return end if epoch > epochs else start + (end - start) * (epoch - 1) / max(1, epochs - 1)


class Prototypes(nn.Module):
    """K directions with which unit vectors are compared: ...xD -> scores ...xK. Their length is 1, or the learned `gain` (K)."""

    gain: nn.Parameter | None

    def __init__(self, count: int, width: int, learned_gain: bool, seed: int) -> None:
        super().__init__()
        self.directions = nn.Parameter(F.normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), dim=1))
        self.gain = nn.Parameter(torch.ones(count)) if learned_gain else None

    def forward(self, rows: Tensor, frozen: bool = False) -> Tensor:
        weights = F.normalize(self.directions, dim=1)
        weights = weights if self.gain is None else self.gain[:, None] * weights
        if frozen:  # a gradient of exactly 0: DDP and the optimiser get one
            weights = weights.detach() + 0 * weights
        return rows @ weights.T


class Objective(nn.Module):
    """DINO: the teacher's `encoder`, `head` and `prototypes`, the `student`'s, and the `centre` (K) of the teacher's scores."""

    progress = 0.0
    centre: Tensor
    patch_centre: Tensor

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head, self.seed = config, encoder, head, seed
        self.views = num_views(config)
        self.prototypes = Prototypes(config.num_prototypes, embedding_width(encoder, head), config.learned_gain, seed)
        teacher = {"encoder": encoder, "head": head, "prototypes": self.prototypes}
        self.student = nn.ModuleDict({name: copy.deepcopy(module) for name, module in teacher.items()})
        for module in teacher.values():
            module.requires_grad_(False)
        encoder.drop_path = 0.0  # of a transformer: the student alone leaves out branches
        self.register_buffer("centre", torch.zeros(config.num_prototypes))
        if config.patch_weight:
            self.register_buffer("patch_centre", torch.zeros(config.num_prototypes))
            self.mask_token = nn.Parameter(torch.zeros(encoder.num_features))

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean over pairs of a large view and another of - sum_k P_k log Q_k, P the teacher's softmax of the first and Q the student's of the
        second (equation 3); and the terms of the options."""
        config, tau, frozen = self.config, teacher_temperature(self.config, epoch), epoch <= self.config.frozen_epochs
        hidden = self.hidden(views[0], index, epoch) if config.patch_weight else None
        with torch.no_grad():
            _, taught, taught_patches = self._embedded(self.encoder, self.head, views[:LARGE], patches=hidden is not None)
            targets = self._targets(taught, self.centre, tau)
        features, learned, patches = self._embedded(
            self.student["encoder"], self.student["head"], views, hidden, patches=hidden is not None
        )
        loss = own = swapped_prediction(self.student["prototypes"](learned, frozen), targets, config.temperature)
        memory = {"feature": learned[0].detach(), "teacher": taught.mean(0)}
        metrics = {"loss_instance": own.detach(), **self._entropies(targets, own.detach())}
        if hidden is not None:
            with torch.no_grad():
                patch_targets = self._targets(taught_patches, self.patch_centre, tau)
            scores = self.student["prototypes"](patches, frozen)
            patch_loss = hidden_prediction(scores.flatten(0, 1), patch_targets.flatten(0, 1), hidden, config.temperature)
            loss = loss + config.patch_weight * patch_loss
            memory["teacher_patches"] = taught_patches.mean((0, 2))
            metrics["loss_patches"] = patch_loss.detach()
        if config.koleo:
            spread = sum(self._koleo(F.normalize(rows, dim=1)) for rows in features[:LARGE])
            loss = loss + config.koleo * spread
            metrics["loss_koleo"] = spread.detach()
        return {"loss": loss, "memory": memory, "metrics": metrics}

    def hidden(self, view: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Which patches of the large views the student does not see: (2 b)xL, of the first views first."""
        side = view.shape[-1] // self.encoder.patch
        draws = torch.cat([LARGE * index + number for number in range(LARGE)])  # each view its own
        return hidden_blocks(draws, side, SHARE, CHANCE, seed=self.seed, epoch=epoch)

    def _embedded(
        self, encoder: nn.Module, head: nn.Module, views: list[Tensor], hidden: Tensor | None = None, *, patches: bool
    ) -> tuple:
        """Features VxbxF, embeddings VxbxD of unit length and, if asked for, those of the large views' patches 2xbxLxD."""
        if not patches:
            features = features_of(encoder, views)
            return features.view(len(views), -1, features.shape[1]), self._units(head, features, len(views)), None
        tokens = encoder.tokens(torch.cat(views[:LARGE]), masked=hidden, mask_token=self.mask_token)
        features = torch.cat([encoder.pooled(tokens), *([features_of(encoder, views[LARGE:])] if views[LARGE:] else [])])
        units = self._units(head, torch.cat([features, tokens[:, encoder.prefix :].flatten(0, 1)]), 1)[0]
        whole, parts = units.split([len(features), len(units) - len(features)])
        return (
            features.view(len(views), -1, features.shape[1]),
            whole.view(len(views), -1, whole.shape[1]),
            parts.view(LARGE, len(views[0]), -1, parts.shape[1]),
        )

    @staticmethod
    def _units(head: nn.Module, features: Tensor, views: int) -> Tensor:
        embeddings = F.normalize(head(features), dim=1)
        return embeddings.view(views, -1, embeddings.shape[1])

    def _targets(self, taught: Tensor, centre: Tensor, tau: float) -> Tensor:
        """The teacher's answers to unit vectors ...xD: the softmax of its scores less their centre, or codes that are balanced over the rows of
        all processes."""
        if self.config.centring == "centre":
            return ((self.prototypes(taught) - centre) / tau).softmax(-1)
        rows = taught.flatten(0, -2)
        codes = sinkhorn(self.prototypes(gather(rows)), tau, ROUNDS)
        return codes[own_rows(len(rows), rows.device)].view(*taught.shape[:-1], -1)

    def _koleo(self, rows: Tensor) -> Tensor:
        return koleo(rows, gather(rows), own_rows(len(rows), rows.device))

    @staticmethod
    def _entropies(targets: Tensor, loss: Tensor) -> dict[str, Tensor]:
        """By which both collapses show: the mean entropy of the teacher's answers, what the loss is above it, and the entropy of the mean answer.

        Answers are all uniform if the first is log K, and all for the same prototype if the last is 0.
        """
        entropy = torch.special.entr(targets).sum(-1).mean()
        return {
            "uniform_loss": loss.new_full((), math.log(targets.shape[-1])),
            "teacher_entropy": entropy,
            "kl": loss - entropy,
            "batch_entropy": torch.special.entr(targets.flatten(0, -2).mean(0)).sum(),
        }

    @torch.no_grad()
    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Moves the centres towards the mean of the batch's scores, of all processes, and then the teacher towards the student."""
        for name, centre in (("teacher", "centre"), ("teacher_patches", "patch_centre")):
            if name in memory:  # scores are linear in embeddings, so the mean embedding has the mean score
                mean = self.prototypes(memory[name].mean(0))
                getattr(self, centre).lerp_(mean, 1 - self.config.centre_momentum)
        teacher = [p for module in (self.encoder, self.head, self.prototypes) for p in module.parameters()]
        move_towards(teacher, [*self.student.parameters()], rising_momentum(self.config.momentum, self.progress))
