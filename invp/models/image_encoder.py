"""What every encoder knows of its images. B images, H x W pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from invp.core.colour import lab


class ImageEncoder(nn.Module):
    """An encoder that knows how its images were normalised, so that it can give their pixels back, and what its network sees of them.

    `mean` and `std` are buffers 1x3x1x1 that no checkpoint holds; left out, images are pixels in [0, 1] as they are. With `input: l` the
    network is given the images' lightness, once for each of three channels, normalised as the images are. `image_size` is the side of the
    images that it is trained on.
    """

    mean: Tensor
    std: Tensor
    image_size: int
    num_features: int
    block_names: list[str]

    def __init__(self, mean: Sequence[float] = (0.0, 0.0, 0.0), std: Sequence[float] = (1.0, 1.0, 1.0), input: str = "rgb") -> None:
        super().__init__()
        self.input = input
        self.bf16 = False  # pretraining sets it where the section asks for it; evaluations keep 32 bits
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def freeze_after(self, block: int) -> None:
        """Gives what lies behind a block (its number in `block_names`) no gradient, for which several processes would wait in vain."""
        for name in self.block_names[block + 1 :]:
            self.get_submodule(name).requires_grad_(False)

    def pixels(self, images: Tensor) -> Tensor:
        """Normalised images Bx3xHxW as pixels in [0, 1], red, green and blue."""
        return (images * self.std + self.mean).clamp(0, 1)

    def seen(self, images: Tensor) -> Tensor:
        """What the first layer gets of normalised images."""
        if self.input == "rgb":
            return images
        return (lab(self.pixels(images))[:, :1] / 100 - self.mean) / self.std
