"""Masked autoencoders (He et al., CVPR 2022): a transformer sees a quarter of an image's patches, and a light decoder makes the others.

Read it by fine-tuning and `linear_blocks`: its features are poor neighbours by nature. B images, L patches, F numbers of a token, P numbers of
a patch.
Differs: the encoder begins as timm's transformers do (authors: every linear layer as Xavier has it).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from invp.core.patches import patchify, unpatchify
from invp.models.decoders import PatchDecoder
from invp.objectives._hidden import hidden_anywhere
from invp.objectives._options import require, require_patches, steady_within_an_epoch
from invp.plumbing.options import option

HEAD = False
EPSILON = 1e-6  # of the variance of a patch


@dataclass
class Config:
    """Options of MAE; the defaults are the paper's for ImageNet."""

    hidden_share: float = option(0.75, "of the patches that the encoder does not see", above=0, below=1)
    norm_pix: bool = option(True, "targets are a patch's pixels less their mean, over their deviation")
    decoder_width: int = option(512, "of the decoder's tokens; a multiple of 4 and of decoder_heads", least=4)
    decoder_depth: int = option(8, "blocks of the decoder: few of them cost linear accuracy", least=1)
    decoder_heads: int = option(16, "of the decoder's attention", least=1)


steady = steady_within_an_epoch


def check_experiment(experiment: dict) -> None:
    """UserError for an encoder that sees no patches."""
    require_patches(experiment)


class Objective(nn.Module):
    """MAE with its `decoder`, which no evaluation sees."""

    views = 1

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        width, heads = config.decoder_width, config.decoder_heads
        require(width % heads == 0 and width % 4 == 0, config, "decoder_width", f"a multiple of 4 and of decoder_heads ({heads})")
        self.config, self.encoder, self.head, self.seed = config, encoder, head, seed
        self.side = encoder.image_size // encoder.patch
        self.seen = int(self.side**2 * (1 - config.hidden_share))
        require(self.seen > 0, config, "hidden_share", f"a share that leaves one of the {self.side**2} patches")
        outputs = 3 * encoder.patch**2
        self.decoder = PatchDecoder(encoder.num_features, self.side, width, config.decoder_depth, heads, outputs, encoder.prefix)

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean squared error of hidden patches' numbers, as `targets` has them."""
        order = hidden_anywhere(index, self.side**2, seed=self.seed, epoch=epoch)
        predictions, hidden = self.predictions(views[0], order), order[:, self.seen :, None]
        wanted, mean, deviation = self.targets(views[0])
        error = (predictions - wanted).square().mean(2, keepdim=True).gather(1, hidden).mean()
        with torch.no_grad():
            made = unpatchify(predictions * deviation + mean, self.encoder.patch)
            squared = (self.encoder.pixels(made) - self.encoder.pixels(views[0])).square()
            pixels = patchify(squared, self.encoder.patch).mean(2, keepdim=True).gather(1, hidden).mean()
        return {"loss": error, "memory": {}, "metrics": {"pretext_error": pixels}}

    def predictions(self, images: Tensor, order: Tensor) -> Tensor:
        """What the decoder makes of every patch, BxLxP, from the first patches of each image's `order` (BxL)."""
        keep = order[:, : self.seen]
        return self.decoder(self.encoder.tokens(images, keep), keep)

    def targets(self, images: Tensor) -> tuple[Tensor, Tensor | float, Tensor | float]:
        """The numbers that are to be predicted of every patch, BxLxP, and the mean and deviation (BxLx1) that were taken out of them."""
        patches = patchify(images, self.encoder.patch)
        if not self.config.norm_pix:
            return patches, 0.0, 1.0
        variance, mean = torch.var_mean(patches, 2, keepdim=True)
        deviation = (variance + EPSILON).sqrt()
        return (patches - mean) / deviation, mean, deviation

    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Does nothing."""

    @torch.no_grad()
    def pictures(self, images: Tensor, index: Tensor) -> dict[str, Tensor]:
        """The images (normalised, Bx3xHxW), what the encoder sees of them, and hidden patches filled in, as pixels in [0, 1].

        With `norm_pix` a filled patch has the mean and the deviation of the true one.
        """
        order = hidden_anywhere(index, self.side**2, seed=self.seed, epoch=0)
        patches, (_, mean, deviation) = patchify(images, self.encoder.patch), self.targets(images)
        hidden = torch.ones_like(order, dtype=torch.bool).scatter(1, order[:, : self.seen], False)[:, :, None]
        filled = torch.where(hidden, self.predictions(images, order) * deviation + mean, patches)
        found = {"input": patches, "seen": patches.masked_fill(hidden, 0.0), "reconstruction": filled}
        return {name: self.encoder.pixels(unpatchify(each, self.encoder.patch)) for name, each in found.items()}
