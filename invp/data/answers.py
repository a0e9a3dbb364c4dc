"""Which test images an evaluation has right, a bit an image in the order of the prepared test split. n test images."""

import base64

import numpy as np


def packed(right: np.ndarray | list[bool]) -> str:
    """n answers, true where right, as base64 of their bits, the first image in the highest bit: 8 KB for 50,000 images."""
    return base64.b64encode(np.packbits(np.asarray(right, bool)).tobytes()).decode()


def unpacked(text: str, images: int) -> np.ndarray:
    """The answers of n images that `packed` wrote, as bool."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), np.uint8), count=images).astype(bool)
