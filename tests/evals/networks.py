"""What the tests of evaluations of the encoder share."""

from pathlib import Path
from types import SimpleNamespace

import torch

from invp.evals._inputs import Saves
from invp.models.encoders import build_encoder
from invp.plumbing.config import plugin_options
from invp.steps import prepare

SMALL = {"name": "resnet_small", "stem": "auto", "norm": "batch", "width": 8, "blocks": 1, "zero_init_residual": False}


def prepared(options: dict, folder: Path, root: Path | None = None) -> dict[str, Path]:
    """The training and the test split of a data set with these options, prepared into `folder` from the raw data under `root`."""
    checked = plugin_options("datasets", options, "test")
    for split in ("train", "test"):
        prepare.write_split(checked, split, root, folder / split, 2)
    return {split: folder / split for split in ("train", "test")}


def encoder_inputs(digits):
    """A small network as it is initialised, with the digits."""
    torch.manual_seed(0)
    return SimpleNamespace(
        encoder=build_encoder(SMALL, 8), head=None, train=digits["train"], test=digits["test"], classes=[str(i) for i in range(10)],
        size=8, mean=[0.3] * 3, std=[0.4] * 3, workers=1, validation=None, saves=Saves(),
    )  # fmt: skip
