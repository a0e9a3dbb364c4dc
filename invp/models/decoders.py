"""Decoders: a code, or the tokens of some patches, back to an image.

B images, D dimensions of the code, C channels, H x W pixels; L patches, F numbers of a token.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST = 4  # pixels a side, at most, of the maps that a code is spread to
GROUPS = 8  # of a group normalisation: what a decoder gives of an image depends on no other image of the batch


def sides_to(size: int) -> list[int]:
    """The sides of the maps from the first to the image's, each of which is twice the one before it or one less: 4, 7, 14, ..., 224."""
    sides = [size]
    while sides[0] > SMALLEST:
        sides.insert(0, (sides[0] + 1) // 2)
    return sides


class ConvDecoder(nn.Module):
    """A code BxD -> an image BxCxsizexsize: a linear layer spreads it to small maps, and each 3 x 3 convolution after an upsampling by two
    halves the channels, down to `width` at the image's own size; a linear layer at each pixel gives the image's channels, of any value.

    An upsampling repeats each pixel; where the next side is odd, the last row and column are cut off.
    """

    def __init__(self, dimensions: int, size: int, width: int, channels: int = 3) -> None:
        super().__init__()
        assert width % GROUPS == 0, f"width must be a multiple of {GROUPS}, not {width}"
        self.sides = sides_to(size)
        widths = [width * 2**place for place in reversed(range(len(self.sides)))]
        self.spread = nn.Linear(dimensions, widths[0] * self.sides[0] ** 2)
        self.halvings = nn.ModuleList(
            nn.Sequential(nn.Conv2d(more, less, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, less), nn.ReLU())
            for more, less in zip(widths, widths[1:], strict=False)
        )
        self.last = nn.Conv2d(width, channels, 1)  # 3 x 3 has so steep a loss that rates above 0.05 diverge

    def forward(self, codes: Tensor) -> Tensor:
        maps = F.relu(self.spread(codes)).unflatten(1, (-1, self.sides[0], self.sides[0]))
        for side, halving in zip(self.sides[1:], self.halvings, strict=True):
            maps = halving(F.interpolate(maps, scale_factor=2, mode="nearest")[:, :, :side, :side])
        return self.last(maps)


class LinearDecoder(nn.Module):
    """A code BxD -> an image BxCxsizexsize by one linear layer. With a linear encoder it finds the principal components."""

    def __init__(self, dimensions: int, size: int, channels: int = 3) -> None:
        super().__init__()
        self.shape = (channels, size, size)
        self.linear = nn.Linear(dimensions, channels * size * size)

    def forward(self, codes: Tensor) -> Tensor:
        return self.linear(codes).unflatten(1, self.shape)


class PatchDecoder(nn.Module):
    """MAE's decoder: the tokens of the patches that were seen -> the numbers of all patches, by transformer blocks of timm.

    Hidden patches come in as one learned token. Positions are fixed sines and cosines; tokens before the patches, `prefix` many, have none.
    """

    positions: Tensor

    def __init__(self, num_features: int, side: int, width: int, depth: int, heads: int, outputs: int, prefix: int) -> None:
        super().__init__()
        from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
        from timm.models.vision_transformer import Block

        self.prefix = prefix
        self.embed, self.norm, self.last = nn.Linear(num_features, width), nn.LayerNorm(width, eps=1e-6), nn.Linear(width, outputs)
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True, norm_layer=norm) for _ in range(depth)))
        self.mask_token = nn.Parameter(0.02 * torch.randn(width))
        self.register_buffer("positions", build_sincos2d_pos_embed((side, side), width), persistent=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, tokens: Tensor, keep: Tensor) -> Tensor:
        """The numbers of all patches, BxLxoutputs, from tokens Bx(prefix + L')xF of the patches with the numbers `keep` (BxL')."""
        tokens = self.embed(tokens)
        seen, width = tokens[:, self.prefix :], tokens.shape[2]
        patches = self.mask_token.expand(len(tokens), len(self.positions), width)
        patches = patches.scatter(1, keep[:, :, None].expand(-1, -1, width), seen) + self.positions
        return self.last(self.norm(self.blocks(torch.cat([tokens[:, : self.prefix], patches], 1))))[:, self.prefix :]
