"""Encoders: torchvision's ResNets, a CIFAR stem and a small variant of them, and raw pixels.

B images, C channels, H x W pixels, F features.
"""

from functools import partial

import torch
from torch import Tensor, nn

NORMS = {"batch": nn.BatchNorm2d, "group": partial(nn.GroupNorm, 8)}


def _small_resnet(width: int, blocks: int, norm_layer, stem: str) -> nn.Module:
    """A torchvision ResNet of three stages of basic blocks: `width`, 2 x and 4 x `width` channels."""
    from torchvision.models.resnet import BasicBlock, ResNet

    resnet = ResNet(BasicBlock, [1, 1, 1, 1], norm_layer=norm_layer)
    resnet.inplanes = width
    resnet.bn1 = norm_layer(width)
    if stem == "cifar":
        resnet.conv1, resnet.maxpool = nn.Conv2d(3, width, 3, padding=1, bias=False), nn.Identity()
    else:
        resnet.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
    resnet.layer1 = resnet._make_layer(BasicBlock, width, blocks)
    resnet.layer2 = resnet._make_layer(BasicBlock, 2 * width, blocks, stride=2)
    resnet.layer3 = resnet._make_layer(BasicBlock, 4 * width, blocks, stride=2)
    resnet.layer4 = nn.Sequential()
    resnet.fc = nn.Linear(4 * width, 1)
    return resnet


class Encoder(nn.Module):
    """A ResNet without its classifier: images BxCxHxW -> globally pooled features BxF."""

    def __init__(self, resnet: nn.Module, stem: str):
        super().__init__()
        self.num_features = resnet.fc.in_features
        self.bf16 = False  # pretraining sets it where the section asks for it; evaluations keep 32 bits
        self.conv1, self.bn1, self.relu, self.maxpool = resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool
        if stem == "cifar":
            self.conv1 = nn.Conv2d(3, resnet.conv1.out_channels, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        self.layer1, self.layer2, self.layer3, self.layer4 = resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        self.block_names = ["stem"] + [
            f"layer{stage}.{index}"
            for stage, layer in enumerate((self.layer1, self.layer2, self.layer3, self.layer4), 1)
            for index in range(len(layer))
        ]

    def blocks(self, images: Tensor) -> list[Tensor]:
        """The map of every block, the stem after its max-pool first: `len(block_names)` tensors Bx?xHxW."""
        maps = [self.maxpool(self.relu(self.bn1(self.conv1(images))))]
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            for block in layer:
                maps.append(block(maps[-1]))
        return maps

    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.bf16):
            maps = self.maxpool(self.relu(self.bn1(self.conv1(images))))
            maps = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return maps.float().mean((2, 3))


class Pixels(nn.Module):
    """The image itself as its feature, the baseline that learns nothing: BxCxHxW -> Bx(C H W)."""

    def __init__(self, num_features: int):
        super().__init__()
        self.num_features = num_features
        self.bf16 = False
        self.block_names = ["pixels"]

    def blocks(self, images: Tensor) -> list[Tensor]:
        return [images]

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def stem_of(options: dict) -> str:
    """The stem that an encoder's options mean: cifar or imagenet."""
    if options["stem"] != "auto":
        return options["stem"]
    return "cifar" if options["name"] == "resnet_small" else "imagenet"


def build_encoder(options: dict, image_size: int) -> nn.Module:
    """The encoder that the section `encoder` asks for; `image_size` in pixels is used by `pixels` alone."""
    name = options["name"]
    if name == "pixels":
        return Pixels(3 * image_size * image_size)
    import torchvision  # with it comes torch's compiler: two seconds, which neither a plan nor a summary need

    norm_layer, stem = NORMS[options["norm"]], stem_of(options)
    if name == "resnet_small":
        encoder = Encoder(_small_resnet(options["width"], options["blocks"], norm_layer, stem), "imagenet")
    else:
        encoder = Encoder(getattr(torchvision.models, name)(norm_layer=norm_layer), stem)
    if options["zero_init_residual"]:
        for module in encoder.modules():
            if isinstance(module, torchvision.models.resnet.Bottleneck):
                nn.init.zeros_(module.bn3.weight)
            elif isinstance(module, torchvision.models.resnet.BasicBlock):
                nn.init.zeros_(module.bn2.weight)
    return encoder


def synchronised(module: nn.Module) -> nn.Module:
    """The module with batch statistics shared over processes (CUDA only: torch has none on CPU)."""
    return torch.nn.SyncBatchNorm.convert_sync_batchnorm(module)
