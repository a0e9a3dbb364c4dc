"""Contrastive Predictive Coding (van den Oord et al., 2018): what is above in an image predicts the patches below, among many others.

B images over all processes, b those of one, R x S places of the grid of patches, h x w pixels of a patch, F features, D dimensions.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.core.patches import grid_patches, window_patches
from invp.core.selection import hashed_indices, hashed_uniform
from invp.data.adjust import to_grey
from invp.models.encoders import has_batch_norm
from invp.models.heads import embedding_width
from invp.objectives._options import require, steady_within_an_epoch
from invp.plumbing.errors import UserError
from invp.plumbing.options import option
from invp.training.distributed import gather, rank_and_world_size

CROP_STREAM, COLOUR_STREAM = 3 << 33, 4 << 33  # keep the draws of a patch apart from others of the same seed


@dataclass
class Config:
    """Options of CPC. The sizes are ours, for images of 32 pixels: 7 x 7 patches, as many as the paper has on ImageNet."""

    patch_size: int = option(8, "pixels of a patch's side", least=1)
    stride: int = option(4, "pixels between patches; the paper has half a patch", least=1)
    nearest: int = option(
        2, "k of the nearest row below that is predicted; 1 shares pixels with what is above if patches overlap", least=1
    )
    farthest: int = option(4, "k of the farthest row below that is predicted", least=1)
    temperature: float = option(
        0.1,
        "tau of the cosines of prediction and vector; 0: their product as it is, as in the paper, with which SGD begins slowly",
        least=0,
    )
    layers: int = option(3, "residual layers of the context, each of which sees one row more above", least=1)
    patch_share: float = option(
        1.0, "the side of the random crop of a patch, as a share of the patch's side; 1: no crop", above=0, most=1
    )
    flip: float = option(0.5, "the probability that a patch is flipped, each on its own", least=0, most=1)
    grey: float = option(0.5, "the probability that a patch loses its colours, each on its own", least=0, most=1)
    allow_batch_norm: bool = option(
        False, "let an encoder have batch normalisation, through whose statistics a patch sees the others: to show what that does"
    )


class ContextLayer(nn.Module):
    """Adds to each place what a kernel of 2 x 3 sees: the row of the place and the one above. BxFxRxS -> BxFxRxS."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.look, self.mix = nn.Conv2d(width, width, (2, 3)), nn.Conv2d(width, width, 1)

    def forward(self, grid: Tensor) -> Tensor:
        # A row of zeros above and none below: the convolution cannot see what it has to predict.
        seen = self.look(F.pad(F.relu(grid), (1, 1, 1, 0)))
        return grid + self.mix(F.relu(seen))


steady = steady_within_an_epoch


class Objective(nn.Module):
    """CPC with its `context`, and a linear map of `predictors` for each k. It has no memory.

    The grid is encoded patch by patch; the head gives the vectors z that are predicted (the paper: `head: {kind: none}`). Evaluations see
    whole images. The context has no normalisation, since its statistics would run over rows below. Vectors that are all equal give the loss
    log(B R S). The loop is given no `feature` to tell a collapse by: under group normalisation the vectors of an untrained network are so
    close to equal that it would see one in the first epoch.
    Differs: what is compared are cosines over a temperature (`temperature: 0`: products, as in the paper); the context's kernels are 2 x 3 and
    as wide as the features (as far as we know, the paper's is a PixelCNN). As in the paper, only rows below are predicted.
    """

    views = 1

    def __init__(self, config: Config, encoder: nn.Module, head: nn.Module, num_samples: int, *, seed: int) -> None:
        super().__init__()
        require(config.farthest >= config.nearest, config, "farthest", f"at least nearest, {config.nearest}")
        if not config.allow_batch_norm and has_batch_norm(encoder):
            raise UserError(
                "objective: cpc asks for `encoder: {norm: group}`: by the statistics of batch normalisation a patch tells of the others; "
                "allow_batch_norm is False, and true shows the effect"
            )
        self.config, self.encoder, self.head, self.seed = config, encoder, head, seed
        width = encoder.num_features
        self.context = nn.Sequential(*(ContextLayer(width) for _ in range(config.layers)))
        steps = range(config.nearest, config.farthest + 1)
        self.predictors = nn.ModuleList(nn.Linear(width, embedding_width(encoder, head), bias=False) for _ in steps)

    def begin_epoch(self, epoch: int, embed: Callable[..., Tensor]) -> None:
        """Does nothing."""

    def forward(self, views: list[Tensor], index: Tensor, epoch: int) -> dict:
        """The mean over places and k of -log exp(z'_{i+k,j} . z_{i+k,j}) / sum_l exp(z'_{i+k,j} . z_l) (equation 4).

        z' = W_k c_ij; l runs over all places of all images of the batch.
        """
        patches = window_patches(views[0], self.config.patch_size, self.config.stride)
        count, rows, columns = patches.shape[:3]
        if rows <= self.config.farthest:
            raise UserError(
                f"objective: farthest must be below {rows}, the rows of patches in a view of {views[0].shape[2]} pixels with patch_size "
                f"{self.config.patch_size} and stride {self.config.stride}, and is {self.config.farthest}"
            )
        features = self.encoder(self._altered(patches, index, epoch))
        vectors = self.head(features)
        grid = features.view(count, rows, columns, -1).permute(0, 3, 1, 2)
        predictions, own = self._predictions(self.context(grid).permute(0, 2, 3, 1))
        others = gather(vectors)
        if self.config.temperature:
            predictions, others = F.normalize(predictions, dim=1) / self.config.temperature, F.normalize(others, dim=1)
        logits = predictions @ others.T
        own = own + rank_and_world_size()[0] * len(vectors)
        loss = F.cross_entropy(logits, own)
        metrics = {
            "pretext_accuracy": 100 * (logits.detach().argmax(1) == own).float().mean(),
            "feature_std": F.normalize(vectors.detach(), dim=1).std(0, correction=0).mean(),
        }
        return {"loss": loss, "memory": {}, "metrics": metrics}

    def end_step(self, index: Tensor, memory: dict[str, Tensor]) -> None:
        """Does nothing."""

    def _predictions(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """W_k c_ij of all places that have a row i + k (PxD), and the number of the place that each predicts (P); context bxRxSxF."""
        count, rows, columns = context.shape[:3]
        number = torch.arange(count * rows * columns, device=context.device).view(count, rows, columns)
        found, own = [], []
        for k, predictor in enumerate(self.predictors, self.config.nearest):
            found.append(predictor(context[:, : rows - k]).flatten(0, 2))
            own.append(number[:, k:].flatten())
        return torch.cat(found), torch.cat(own)

    def _altered(self, patches: Tensor, index: Tensor, epoch: int) -> Tensor:
        """Each patch cropped, flipped and without its colours by chance of its own: (b R S) x C x h x w, from b x R x S x C x h x w."""
        num_places = patches.shape[1] * patches.shape[2]
        patches = patches.flatten(0, 2)
        if self.config.patch_share < 1:
            offsets = hashed_indices(index, 2 * num_places, 1 << 62, seed=self.seed + CROP_STREAM, epoch=epoch)
            patches = grid_patches(patches, offsets.view(-1, 2), self.config.patch_share, side=1)
        draws = hashed_uniform(index, 2 * num_places, self.seed + COLOUR_STREAM, epoch).view(-1, 2)
        flipped, grey = (
            own[:, None, None, None] < share for own, share in zip(draws.T, (self.config.flip, self.config.grey), strict=True)
        )
        patches = torch.where(flipped, patches.flip(3), patches)
        pixels = to_grey(self.encoder.pixels(patches))
        return torch.where(grey, (pixels - self.encoder.mean) / self.encoder.std, patches)
