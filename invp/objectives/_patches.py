"""What the tasks on nine patches of an image share: how patches are cut, and how shortcuts to where they were are closed.

B images, C channels, H x W pixels, D dimensions. Each shortcut has an option that opens it again:
- lines that go on from patch to patch: a patch is cut at a random place of its cell (`patch_share`);
- brightness and contrast, which change slowly over an image: each channel of a patch has mean 0 and deviation 1 (`standardise`);
- chromatic aberration, by which a lens shifts colours more at an image's edge: grey images (`grey`), channels of a patch that are moved
  against each other (`colour_shift`), or one channel alone (`drop_channels`).
Batch normalisation has the statistics of all patches of a process, which are the same for all of its patches and so tell nothing of one's
place. To shuffle patches within a batch would not change them. `norm: group` has none.

The encoder sees patches alone in training, and whole images in evaluations. So the feature of an image, by which a collapse is told, is
that of its middle patch: a pass over whole images would cost time and mix their statistics into the encoder's.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.patches import grid_patches, shifted_channels, standardised
from invp.core.selection import hashed_indices, hashed_uniform
from invp.objectives._options import require
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

SIDE = 3  # patches a side
NUM_PATCHES = SIDE * SIDE
MIDDLE = NUM_PATCHES // 2
# These keep the draws apart from each other and from others of the same seed.
OFFSET_STREAM, GREY_STREAM, SHIFT_STREAM, KEEP_STREAM = (i << 33 for i in (2, 3, 4, 5))


@dataclass
class PatchConfig:
    """Options of a task on patches."""

    patch_share: float = option(
        0.75, "the side of a patch as a share of its cell's, where it lies at random; 1: no gap and no jitter", above=0, most=1
    )
    patch_size: int = option(
        0, "the side in pixels to which patches are resized, for tiny images; 0: they are not resized", least=0
    )
    standardise: bool = option(True, "each channel of each patch has mean 0 and deviation 1")
    grey: float = option(0.66, "the share of images that are grey", least=0, most=1)
    colour_shift: int = option(
        0, "the pixels by which each channel of a patch is moved at most, of images that are not grey", least=0
    )
    drop_channels: bool = option(False, "each patch keeps one channel at random; the others are 0, the mean")


class PatchTask(nn.Module):
    """An objective with embeddings of nine patches of each image, cut from its augmented view."""

    views = 1

    def __init__(self, config: PatchConfig, encoder: nn.Module, head: nn.Module, *, seed: int) -> None:
        super().__init__()
        self.config, self.encoder, self.head, self.seed = config, encoder, head, seed
        splits = getattr(encoder, "input", "rgb") != "rgb" or hasattr(encoder, "halves")
        require(
            not (splits and config.standardise), config, "standardise", "false with encoder.input l or l+ab, which need the colours"
        )

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing."""

    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Does nothing."""

    def embeddings(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """The head's output of each image's nine patches, row by row: Bx9xD."""
        return self.head(self.encoder(self.patches(images, index, epoch))).unflatten(0, (len(images), NUM_PATCHES))

    def patches(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Nine patches of each image (BxCxHxW), row by row: (9B)xCxhxw. What is random is a function of seed, epoch and image."""
        config, side = self.config, self.config.patch_size
        if min(images.shape[2:]) < SIDE:
            raise UserError(
                f"augmentation.size must be at least {SIDE}, of which nine patches can be cut, and is {min(images.shape[2:])}"
            )
        grey = hashed_uniform(index, 1, self.seed + GREY_STREAM, epoch)[:, 0] < config.grey
        if config.grey:
            images = torch.where(grey[:, None, None, None], self._grey(images), images)
        offsets = hashed_indices(index, 2 * NUM_PATCHES, 1 << 62, seed=self.seed + OFFSET_STREAM, epoch=epoch)
        patches = grid_patches(images, offsets.view(-1, 2), config.patch_share, SIDE)
        channels = patches.shape[1]
        if config.colour_shift:
            count, most = NUM_PATCHES * channels * 2, config.colour_shift
            shifts = hashed_indices(index, count, 2 * most + 1, seed=self.seed + SHIFT_STREAM, epoch=epoch) - most
            patches = shifted_channels(patches, shifts.masked_fill(grey[:, None], 0).view(-1, channels, 2))
        if side:
            patches = F.interpolate(patches, (side, side), mode="bilinear", align_corners=False)
        if config.standardise:
            patches = standardised(patches)
        if config.drop_channels:
            kept = hashed_indices(index, NUM_PATCHES, channels, seed=self.seed + KEEP_STREAM, epoch=epoch).view(-1, 1)
            patches = patches * (kept == torch.arange(channels, device=kept.device))[:, :, None, None]
        return patches

    def _grey(self, images: Tensor) -> Tensor:
        """Normalised images without colour, normalised again."""
        from invp.data.adjust import to_grey  # with it comes kornia, which a plan does not need

        return (to_grey(self.encoder.pixels(images)) - self.encoder.mean) / self.encoder.std
