"""Encoders: torchvision's ResNets, their stems for small images, a small variant, two of them side by side, timm's transformers, raw pixels.

B images, C channels, H x W pixels, F features.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from invp.core.colour import lab_scaled
from invp.models.image_encoder import ImageEncoder
from invp.models.libraries import imported
from invp.models.transformers import Transformer
from invp.plumbing.encoder_options import VITS

NORMS = {"batch": nn.BatchNorm2d, "group": partial(nn.GroupNorm, 8)}


def _first(channels: int, width: int, stem: str) -> nn.Conv2d:
    """The first convolution of a stem: 3 x 3 of stride 1 or 2, or 7 x 7 of stride 2."""
    if stem != "imagenet":
        return nn.Conv2d(channels, width, 3, stride=2 if stem == "stride2" else 1, padding=1, bias=False)
    return nn.Conv2d(channels, width, 7, stride=2, padding=3, bias=False)


def _of_width(resnet: nn.Module, conv1: nn.Conv2d, counts: list[int], norm_layer) -> nn.Module:
    """A torchvision ResNet built anew with the width of `conv1`, which doubles with each stage, and `counts` blocks a stage."""
    block, width = type(resnet.layer1[0]), conv1.out_channels
    resnet.inplanes, resnet.conv1, resnet.bn1 = width, conv1, norm_layer(width)
    for stage, count in enumerate(counts):
        layer = resnet._make_layer(block, width * 2**stage, count, stride=1 + (stage > 0)) if count else nn.Sequential()
        setattr(resnet, f"layer{stage + 1}", layer)
    resnet.fc = nn.Linear(resnet.inplanes, 1)
    return resnet


def _resnet(options: dict, channels: int = 3, share: float = 1.0) -> nn.Module:
    """The torchvision ResNet that the options mean, of images with so many channels, and `share` of its usual width."""
    models = imported("torchvision.models.resnet")
    norm_layer, stem = NORMS[options["norm"]], stem_of(options)
    if options["name"] == "resnet_small":
        resnet = models.ResNet(models.BasicBlock, [1, 1, 1, 1], norm_layer=norm_layer)
        resnet.maxpool = resnet.maxpool if stem == "imagenet" else nn.Identity()
        conv1 = _first(channels, round(share * options["width"]), stem)
        return _of_width(resnet, conv1, [options["blocks"]] * 3 + [0], norm_layer)
    resnet = getattr(models, options["name"])(norm_layer=norm_layer)
    if share != 1:
        counts = [len(layer) for layer in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4)]
        resnet = _of_width(resnet, _first(channels, round(64 * share), stem), counts, norm_layer)
    elif stem != "imagenet" or channels != 3:
        resnet.conv1 = _first(channels, 64, stem)
    if stem != "imagenet":
        resnet.maxpool = nn.Identity()
    return resnet


class Encoder(ImageEncoder):
    """A ResNet without its classifier: images BxCxHxW -> globally pooled features BxF."""

    def __init__(self, resnet: nn.Module, **known) -> None:
        super().__init__(**known)
        self.num_features = resnet.fc.in_features
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.block_names = ["stem"] + [
            f"layer{stage}.{index}"
            for stage, layer in enumerate((self.layer1, self.layer2, self.layer3, self.layer4), 1)
            for index in range(len(layer))
        ]

    def stem(self, images: Tensor) -> Tensor:
        """The maps of the stem after its max-pool."""
        return self.maxpool(self.relu(self.bn1(self.conv1(self.seen(images)))))

    def blocks(self, images: Tensor) -> list[Tensor]:
        """The map of every block, the stem after its max-pool first: `len(block_names)` tensors Bx?xHxW of the images' type."""
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            maps = [self.stem(images)]
            for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
                for block in layer:
                    maps.append(block(maps[-1]))
        return [each.to(images.dtype) for each in maps]

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            maps = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(images)))))
        return maps.float().mean((2, 3))


class SplitEncoder(ImageEncoder):
    """Two ResNets, `light` of an image's lightness and `colour` of its colours, with their features one after the other: `input: l+ab`.

    As the two halves of CMC (Tian et al., ECCV 2020) and of split-brain autoencoders (Zhang et al., CVPR 2017).
    """

    def __init__(self, light: nn.Module, colour: nn.Module, **normalisation) -> None:
        super().__init__(**normalisation)
        self.light, self.colour = Encoder(light), Encoder(colour)
        self.num_features, self.block_names = 2 * self.light.num_features, self.light.block_names

    @property
    def bf16(self) -> bool:
        """Whether both halves compute in 16 bits."""
        return self.light.bf16

    @bf16.setter
    def bf16(self, value: bool) -> None:
        for half in self.children():
            half.bf16 = value

    def planes(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What the halves see of normalised images: lightness Bx1xHxW and colours Bx2xHxW, each from -1 to 1."""
        scaled = lab_scaled(self.pixels(images))
        return scaled[:, :1], scaled[:, 1:]

    def freeze_after(self, block: int) -> None:
        self.light.freeze_after(block)
        self.colour.freeze_after(block)

    def halves(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The features of the lightness and those of the colours, Bx(F/2) each."""
        lightness, colours = self.planes(images)
        return self.light(lightness), self.colour(colours)

    def blocks(self, images: Tensor) -> list[Tensor]:
        """The maps of each block of both halves, those of the lightness first: `len(block_names)` tensors Bx?xHxW."""
        lightness, colours = self.planes(images)
        return [torch.cat(both, 1) for both in zip(self.light.blocks(lightness), self.colour.blocks(colours), strict=True)]

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat(self.halves(images), 1)


class Pixels(ImageEncoder):
    """The image itself as its feature, the baseline that learns nothing: BxCxHxW -> Bx(C H W)."""

    def __init__(self, num_features: int, **normalisation) -> None:
        super().__init__(**normalisation)
        self.num_features = num_features
        self.block_names = ["pixels"]

    def blocks(self, images: Tensor) -> list[Tensor]:
        return [images]

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def stem_of(options: dict) -> str:
    """The stem that an encoder's options mean: cifar, stride2 or imagenet."""
    if options["stem"] != "auto":
        return options["stem"]
    return "cifar" if options["name"] == "resnet_small" else "imagenet"


def build_encoder(options: dict, image_size: int, **normalisation: Sequence[float]) -> ImageEncoder:
    """The encoder that the section `encoder` asks for, of images with a side of `image_size` pixels.

    `mean` and `std` are those with which images come normalised; without them images are pixels in [0, 1].
    """
    kind = options.get("input", "rgb")  # which what was exported before there was a choice does not say
    encoder: ImageEncoder
    if options["name"] == "pixels":
        encoder = Pixels(3 * image_size * image_size, **normalisation)
    elif kind == "l+ab":
        share = options["width_share"]
        encoder = SplitEncoder(_resnet(options, 1, share), _resnet(options, 2, share), **normalisation)
    elif options["name"] in VITS:
        encoder = Transformer(options, image_size, input=kind, **normalisation)
    else:
        encoder = Encoder(_resnet(options), input=kind, **normalisation)
    if options["zero_init_residual"]:
        blocks = imported("torchvision.models.resnet")
        for module in encoder.modules():
            if isinstance(module, blocks.Bottleneck):
                nn.init.zeros_(module.bn3.weight)
            elif isinstance(module, blocks.BasicBlock):
                nn.init.zeros_(module.bn2.weight)
    encoder.image_size = image_size
    return encoder


def has_batch_norm(encoder: nn.Module) -> bool:
    """Whether an encoder has batch normalisation, through whose statistics images of a batch see each other."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules())


def synchronised(module: nn.Module) -> nn.Module:
    """The module with batch statistics shared over processes (CUDA only: torch has none on CPU)."""
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)
