"""What a figure is given, by its NEEDS."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class FigureInputs:
    """What a figure may look at; only what its NEEDS names is filled."""

    experiment: dict
    curves: list[dict] = field(default_factory=list)  # a row an epoch
    graphs: dict[int, Path] = field(default_factory=dict)  # stage -> folder of knn.arrow
    features: dict[str, Path] = field(default_factory=dict)  # split -> table
    stage_features: dict[int, Path] = field(default_factory=dict)  # stage -> table of the training split
    metrics: list[dict] = field(default_factory=list)
    dataset: dict[str, Path] = field(default_factory=dict)  # split -> folder of manifest.json
    objective: Any = None  # of the last stage, in evaluation mode
    encoder: Any = None  # of the last stage, in evaluation mode
    test_images: Callable[[Any], Any] | None = None  # numbers of test images, a tensor B -> the images, normalised: Bx3xHxW
