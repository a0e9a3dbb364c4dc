"""An autoencoder: a code from which a decoder makes the image again, as the companion study in PNAS (Zhuang et al., 2021) trains one.

B batch, D dimensions of the code, H x W pixels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from invp.objectives._decoding import DECODERS, build_decoder
from invp.objectives._options import steady_within_an_epoch
from invp.plumbing.options import option


@dataclass
class Config:
    """Options of the autoencoder. PNAS has a code of 128 and sparsity 1e-4."""

    decoder: str = option("conv", "linear: one layer, which with a linear encoder finds the principal components", choices=DECODERS)
    decoder_width: int = option(16, "of conv: channels at the image's size, twice as many at each half of it; eights", least=8)
    sparsity: float = option(0.0, "weight of the mean absolute value of the code", least=0)


steady = steady_within_an_epoch


class Objective(nn.Module):
    """The autoencoder: the head's output is the code, from which `decoder` makes the image.

    Differs from PNAS: its decoder mirrors a ResNet; this one is smaller, and normalises by groups, so that no image depends on others.
    Differs: errors are of pixels in [0, 1].
    """

    views = 1

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head = config, encoder, head
        self.decoder = build_decoder(config, encoder, head, config.decoder)

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """Half of the mean squared error of the view's pixels, and sparsity times the mean absolute value of the code (BxD)."""
        code = self.head(self.encoder(views[0]))
        error = (self.decoder(code) - self.encoder.pixels(views[0])).square().mean()
        size = code.abs().mean()
        loss = error / 2 + self.config.sparsity * size
        return {"loss": loss, "memory": {}, "metrics": {"pretext_error": error.detach(), "code_size": size.detach()}}

    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Does nothing."""

    @torch.no_grad()
    def pictures(self, images: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The images (normalised, Bx3xHxW) and what the decoder makes of their codes, as pixels in [0, 1]."""
        reconstruction = self.decoder(self.head(self.encoder(images)))
        return {"input": self.encoder.pixels(images), "reconstruction": reconstruction.clamp(0, 1)}
