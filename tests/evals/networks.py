"""What the tests of evaluations of the encoder share."""

from types import SimpleNamespace

import torch

from invp.evals._inputs import Saves
from invp.models.encoders import build_encoder

SMALL = {"name": "resnet_small", "stem": "auto", "norm": "batch", "width": 8, "blocks": 1, "zero_init_residual": False}


def encoder_inputs(digits):
    """A small network as it is initialised, with the digits."""
    torch.manual_seed(0)
    return SimpleNamespace(
        encoder=build_encoder(SMALL, 8), head=None, train=digits["train"], test=digits["test"], classes=[str(i) for i in range(10)],
        size=8, mean=[0.3] * 3, std=[0.4] * 3, workers=1, validation=None, saves=Saves(),
    )  # fmt: skip
