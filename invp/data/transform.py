"""One image at a time as the workflow feeds a network: for a network that is used elsewhere. C channels, H x W pixels."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from invp.data.augment import normalised
from invp.data.decode import CENTRAL, central_crop, resized


class Transform:
    """An image, of Pillow or as a uint8 tensor CxHxW, as the normalised tensor 3xsizexsize that the features step makes of it.

    With `whole`, as of sets of small equal-sized images, it is resized as a whole; else, as of photographs, its centre is cropped.
    """

    def __init__(self, size: int, mean: list[float], std: list[float], whole: bool):
        self.size, self.mean, self.std, self.whole = size, mean, std, whole

    def __call__(self, image: Image.Image | Tensor) -> Tensor:
        if isinstance(image, Tensor):
            pixels = image.expand(3, -1, -1).permute(1, 2, 0).numpy()
            image = Image.fromarray(np.ascontiguousarray(pixels))
        image = image.convert("RGB")
        if self.whole:
            images = resized(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float().div_(255), self.size)
        else:
            images = central_crop(image, self.size, CENTRAL)[None].float().div_(255)
        return normalised(images, self.mean, self.std)[0]

    def __repr__(self) -> str:
        how = "resized as a whole" if self.whole else "the central crop"
        return f"Transform({how}, size={self.size}, mean={self.mean}, std={self.std})"
