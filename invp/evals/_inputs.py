"""What an evaluation is given, by its NEEDS. N images, F features of the encoder, D dimensions of the head, C classes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from invp.data.tables import Rows

if TYPE_CHECKING:  # an evaluation of features does not wait for torch
    from torch import nn


@dataclass
class FeatureTable:
    """Features of a split: `feature` NxF, `embedding` NxD, `labels` N (int64), `index` N.

    The first two are read when they are asked for: a block of rows by `feature[a:b]`, all by `numpy.asarray(feature)`. Of multi-label sets
    `labels` is -1 and `multi_labels` NxC: 1 present, 0 absent, -1 only as objects marked difficult.
    """

    feature: np.ndarray | Rows
    embedding: np.ndarray | Rows
    labels: np.ndarray
    index: np.ndarray
    multi_labels: np.ndarray | None = None


@dataclass
class FeatureInputs:
    """What an evaluation of features gets."""

    train: FeatureTable
    test: FeatureTable
    classes: list[str]


class Saves:
    """Where the trainings of an evaluation save, so that a job that was stopped goes on in the training that it left; this one keeps
    nothing, for evaluations that are called by hand.

    A state is a dict that `torch.load` reads without executing code. It has `objective`, what is trained; `epoch`, how many have ended;
    and `step`, how many steps of the epoch after these. The global random state is saved beside it.
    """

    def begin(self, name: str) -> dict | None:
        """The state in which the training of this name was left, on the CPU, or None; from now on a signal asks it to save and leave."""

    def offer(self, name: str, state: Callable[[], dict]) -> None:
        """To be called after each step: saves what `state()` returns if it is time to. Stopped if the job was asked to end."""

    def end(self, name: str, state: Callable[[], dict]) -> None:
        """To be called after the last step: a long training is saved whole, and from now on a signal ends the job at once."""


@dataclass
class EncoderInputs:
    """What an evaluation of the encoder gets: networks, and prepared splits as folders."""

    encoder: "nn.Module"
    head: "nn.Module"
    train: Path
    test: Path | None  # None for an evaluation whose SPLITS leave it out
    classes: list[str]
    size: int
    mean: list[float]
    std: list[float]
    workers: int = 1
    validation: Path | None = None  # the set's own validation split, where the evaluation's VALIDATION asks for one
    saves: Saves = field(default_factory=Saves)
