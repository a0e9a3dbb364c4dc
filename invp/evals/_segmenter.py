"""What answers with a class for each pixel: an encoder's maps, and a head on them. B images, C channels, K classes with the background."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from invp.models.encoders import Encoder
from invp.models.transformers import Transformer

HEAD_DILATION = 6  # of the two convolutions of the head of MoCo (He et al., CVPR 2020, appendix)


def dilated(encoder: nn.Module, dilation: int) -> nn.Module:
    """A copy of an encoder whose last maps are as large as those of the stage before, if `dilation` is more than 1.

    Of every ResNet in it the last stage has stride 1, and its 3x3 convolutions this dilation, so that they see as far as with their stride.
    Encoders without stages, as transformers, are copied as they are.
    """
    encoder = copy.deepcopy(encoder)
    for resnet in (module for module in encoder.modules() if isinstance(module, Encoder)):
        stages = [stage for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4) if len(stage)]
        for convolution in (module for module in stages[-1].modules() if isinstance(module, nn.Conv2d) and dilation > 1):
            convolution.stride = (1, 1)
            if convolution.kernel_size == (3, 3):
                convolution.dilation = convolution.padding = (dilation, dilation)
    return encoder


def maps(encoder: nn.Module, images: Tensor) -> Tensor:
    """The last maps of an encoder, BxCxhxw."""
    return encoder.blocks(images)[-1].float()


def linear_head(channels: int, num_classes: int) -> nn.Sequential:
    """A batch normalisation and a 1x1 convolution: BxCxhxw -> BxKxhxw."""
    return nn.Sequential(nn.BatchNorm2d(channels), nn.Conv2d(channels, num_classes, 1))


def fcn_head(channels: int, num_classes: int, width: int) -> nn.Sequential:
    """MoCo's head: two 3x3 convolutions of `width` channels and dilation 6, each with batch normalisation and ReLU, then 1x1."""
    layers: list[nn.Module] = []
    for wide in (channels, width):
        convolution = nn.Conv2d(wide, width, 3, padding=HEAD_DILATION, dilation=HEAD_DILATION, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(width, num_classes, 1))


class Segmenter(nn.Module):
    """Images BxCxHxW, normalised -> scores BxKxHxW, made larger by bilinear interpolation. For a transformer, whose maps are its patches'
    tokens, images are filled up with zeros to whole patches at their right and below.

    `frozen`: the encoder stays as it is, in evaluation mode and without gradients, under a linear head; else it is trained with `fcn_head`.
    """

    def __init__(self, encoder: nn.Module, num_classes: int, *, frozen: bool, dilation: int, width: int):
        super().__init__()
        self.frozen, self.encoder = frozen, dilated(encoder, dilation)
        with torch.no_grad():
            side = self.encoder.image_size if isinstance(self.encoder, Transformer) else 64
            channels = maps(self.encoder.eval(), torch.zeros(1, 3, side, side)).shape[1]
        self.head = linear_head(channels, num_classes) if frozen else fcn_head(channels, num_classes, width)
        self.encoder.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> "Segmenter":
        super().train(mode)
        self.encoder.train(mode and not self.frozen)
        return self

    def forward(self, images: Tensor) -> Tensor:
        height, width = images.shape[2:]
        side = self.encoder.patch if isinstance(self.encoder, Transformer) else 1
        whole = F.pad(images, (0, -width % side, 0, -height % side)) if height % side or width % side else images
        scores = F.interpolate(self.head(maps(self.encoder, whole)), whole.shape[2:], mode="bilinear")
        return scores[:, :, :height, :width]
