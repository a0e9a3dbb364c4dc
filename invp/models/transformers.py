"""Vision transformers (Dosovitskiy et al., ICLR 2021), of timm's modules.

B images, H x W pixels, L patches, R registers, T = 1 + R + L tokens (the class token first, then the registers), F numbers of a token.
"""

import torch
from torch import Tensor, nn

from invp.core.selection import hashed_uniform
from invp.models.image_encoder import ImageEncoder
from invp.models.libraries import imported
from invp.plumbing.errors import UserError

SHAPES = {"vit_tiny": (192, 12, 3), "vit_small": (384, 12, 6), "vit_base": (768, 12, 12)}  # F, blocks, heads
DROP_STREAM = 0x5D809


class Transformer(ImageEncoder):
    """timm's `VisionTransformer` without a classifier, its weights initialised as timm does by default: images BxCxHxW -> features BxF.

    Linear layers begin as a truncated normal distribution of deviation 0.02 without bias, learned positions too, class token and registers
    at about zero, the patch projection as a convolution of torch. Images may be of any size that is a multiple of the patch: positions are
    then resampled bicubically. `drop_path`, the rate of the last block up to which those of the others rise from 0, may be set to 0 for a
    copy that is to drop nothing.
    """

    def __init__(self, options: dict, image_size: int, **known) -> None:
        super().__init__(**known)
        width, depth, heads = SHAPES[options["name"]]
        width, depth, self.patch = options["token_width"] or width, options["depth"] or depth, options["patch"]
        if image_size % self.patch:
            raise UserError(f"encoder.patch is {self.patch}; valid: what divides the side of the images, {image_size}")
        # timm's import takes a second, and neither a plan nor a summary needs it.
        self.vit = imported("timm.models.vision_transformer").VisionTransformer(
            img_size=image_size, patch_size=self.patch, embed_dim=width, depth=depth, num_heads=heads, num_classes=0,
            reg_tokens=options["registers"], dynamic_img_size=True,
        )  # fmt: skip
        self.num_features, self.pool, self.drop_path = width, options["pool"], options["drop_path"]
        self.prefix = self.vit.num_prefix_tokens  # tokens before those of the patches
        self.block_names = [f"block{number}" for number in range(depth)]
        if options["positions"] == "sincos":
            self._fix_positions()
        if options["freeze_patches"]:
            self.vit.patch_embed.requires_grad_(False)

    def _fix_positions(self) -> None:
        """Gives patches sines and cosines of their row and column for positions, and the tokens before them zeros, without gradient."""
        from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed

        self.vit.pos_embed.requires_grad_(False)
        self.vit.pos_embed.zero_()
        self.vit.pos_embed[0, self.prefix :] = build_sincos2d_pos_embed(self.vit.patch_embed.grid_size, self.num_features)

    def _embedded(self, images: Tensor, keep: Tensor | None, masked: Tensor | None, mask_token: Tensor | None) -> Tensor:
        """The tokens before the first block, BxTxF, of the patches `keep` alone where it is given."""
        from timm.layers import resample_abs_pos_embed

        vit, side = self.vit, self.patch
        if images.shape[2] % side or images.shape[3] % side:
            raise UserError(f"images of {images.shape[2]} x {images.shape[3]} pixels; valid: multiples of encoder.patch, {side}")
        patches = vit.patch_embed(self.seen(images))  # Bxhxwx F
        positions = resample_abs_pos_embed(
            vit.pos_embed, patches.shape[1:3], vit.patch_embed.grid_size, num_prefix_tokens=self.prefix
        )
        patches = patches.flatten(1, 2)
        if masked is not None:
            patches = torch.where(masked[:, :, None], mask_token.to(patches.dtype), patches)
        patches = patches + positions[:, self.prefix :]
        if keep is not None:
            patches = patches.gather(1, keep[:, :, None].expand(-1, -1, patches.shape[2]))
        own = vit.cls_token if vit.reg_token is None else torch.cat([vit.cls_token, vit.reg_token], 1)
        return torch.cat([(own + positions[:, : self.prefix]).expand(len(images), -1, -1), patches], 1)

    def _after_blocks(self, images: Tensor, tokens: Tensor) -> list[Tensor]:
        """The tokens BxTxF after each block. In training a block's two branches are left out of an image at random, and scaled up else.

        What is drawn is a function of the image's own pixels, so of seed, epoch, step and view: no state and no process count changes it.
        """
        scales: Tensor | None = None  # of blocks x branches x B
        if self.training and self.drop_path:
            keys = images.detach().float().view(torch.int32).sum((1, 2, 3), dtype=torch.int64)
            kept = 1 - torch.linspace(0, self.drop_path, len(self.vit.blocks), device=images.device).repeat_interleave(2)
            draws = hashed_uniform(keys, len(kept), DROP_STREAM) < kept
            scales = (draws / kept).T.view(-1, 2, len(images), 1, 1).to(tokens.dtype)
        found = []
        for number, block in enumerate(self.vit.blocks):
            if scales is None:
                tokens = block(tokens)
            else:
                tokens = tokens + scales[number, 0] * block.attn(block.norm1(tokens))
                tokens = tokens + scales[number, 1] * block.mlp(block.norm2(tokens))
            found.append(tokens)
        return found

    def tokens(
        self, images: Tensor, keep: Tensor | None = None, masked: Tensor | None = None, mask_token: Tensor | None = None
    ) -> Tensor:
        """The tokens after the last block and its normalisation, BxTxF: class token, registers, patches by rows; timm's `forward_features`.

        With `keep`, the numbers BxL' of the patches of each image that are seen, there are L' patches, in this order (He et al., CVPR 2022).
        Where `masked` (BxL) is true a patch's projection is replaced by `mask_token`, F numbers or what has that as its last dimension.
        """
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            tokens = self._after_blocks(images, self._embedded(images, keep, masked, mask_token))[-1]
            return self.vit.norm(tokens).to(images.dtype)

    def pooled(self, tokens: Tensor) -> Tensor:
        """The features BxF of tokens BxTxF: the class token, or the mean of the patches."""
        return tokens[:, 0] if self.pool == "token" else tokens[:, self.prefix :].mean(1)

    def forward(self, images: Tensor) -> Tensor:
        return self.pooled(self.tokens(images))

    def blocks(self, images: Tensor) -> list[Tensor]:
        """The patches' tokens after every block, not normalised, as maps: `len(block_names)` tensors BxFxhxw of the images' type."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            found = self._after_blocks(images, self._embedded(images, None, None, None))
        size = images.shape[2] // self.patch, images.shape[3] // self.patch
        return [tokens[:, self.prefix :].mT.unflatten(2, size).to(images.dtype) for tokens in found]

    def freeze_after(self, block: int) -> None:
        self.vit.blocks[block + 1 :].requires_grad_(False)
        self.vit.norm.requires_grad_(False)

    def attention(self, images: Tensor) -> Tensor:
        """The attention of the last block, softmax(q k^T / sqrt(d)): images x heads x T x T, each row of which sums to 1."""
        tokens, block = self._embedded(images, None, None, None), self.vit.blocks[-1]
        if len(self.vit.blocks) > 1:
            tokens = self._after_blocks(images, tokens)[-2]
        qkv = block.attn.qkv(block.norm1(tokens)).unflatten(2, (3, block.attn.num_heads, -1))  # BxTx3xheadsxd
        queries, keys, _ = qkv.permute(2, 0, 3, 1, 4)
        return (queries @ keys.mT * block.attn.scale).softmax(3)


def plain(encoder: nn.Module) -> nn.Module:
    """What of an encoder has the names of the library that it comes from: timm's network in a transformer, else the encoder itself."""
    return encoder.vit if isinstance(encoder, Transformer) else encoder


def plain_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of a transformer under timm's own names; those of other encoders as they are."""
    return {name.removeprefix("vit."): value for name, value in tensors.items()}
