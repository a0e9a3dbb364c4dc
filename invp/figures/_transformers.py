"""What the figures of a transformer share."""

from typing import Any

import numpy as np

from invp.plumbing.encoder_options import VITS
from invp.plumbing.errors import UserError


def need_a_transformer(figure: str, encoder: dict) -> None:
    """UserError for another encoder, which has no patches to show."""
    if encoder["name"] not in VITS:
        raise UserError(f"{figure} shows patches of a transformer, and encoder.name is {encoder['name']}; valid: {', '.join(VITS)}")


def pixels_of(inputs: Any, images: Any) -> np.ndarray:
    """Normalised images Bx3xHxW as pixels BxHxWx3 in [0, 1]."""
    return inputs.encoder.pixels(images).permute(0, 2, 3, 1).numpy()
