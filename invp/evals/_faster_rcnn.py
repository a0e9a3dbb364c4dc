"""Faster R-CNN around an encoder, with the layout C4, of torchvision's modules. B images, R regions, C channels, F features."""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.rpn import AnchorGenerator
from torchvision.ops import MultiScaleRoIAlign

from invp.plumbing.errors import UserError


class Stages(nn.Module):
    """An encoder whose last stage was taken away: images Bx3xHxW -> maps BxCxhxw."""

    def __init__(self, encoder: nn.Module, out_channels: int):
        super().__init__()
        self.encoder, self.out_channels = encoder, out_channels

    def forward(self, images: Tensor) -> Tensor:
        return self.encoder.blocks(images)[-1]


class BoxHead(nn.Module):
    """The encoder's last stage on pooled regions, the extra batch normalisation, and the mean: RxCxhxw -> RxF."""

    def __init__(self, last: nn.Module, num_features: int):
        super().__init__()
        self.last, self.norm = last, nn.BatchNorm2d(num_features)

    def forward(self, regions: Tensor) -> Tensor:
        return self.norm(self.last(regions)).mean((2, 3))


def detector(encoder: nn.Module, num_classes: int, config: Any, mean: list[float], std: list[float]) -> FasterRCNN:
    """Faster R-CNN with the layout C4, from torchvision's parts around a copy of the encoder; class 0 is the background."""
    encoder = copy.deepcopy(encoder)
    names = [name for name in ("layer1", "layer2", "layer3", "layer4") if len(getattr(encoder, name, []))]
    if len(names) < 2:
        raise UserError("detection needs a single ResNet: this encoder has no stages")
    last = getattr(encoder, names[-1])
    setattr(encoder, names[-1], nn.Sequential())
    with torch.no_grad():
        stages = Stages(encoder, 0).eval()
        stages.out_channels = stages(torch.zeros(1, 3, 64, 64)).shape[1]
    return FasterRCNN(
        stages,
        min_size=tuple(config.train_sizes),
        max_size=config.longest,
        image_mean=mean,
        image_std=std,
        rpn_anchor_generator=AnchorGenerator((tuple(config.anchors),), ((0.5, 1.0, 2.0),)),
        box_roi_pool=MultiScaleRoIAlign(["0"], config.pooled, 2),
        box_head=BoxHead(last, encoder.num_features),
        box_batch_size_per_image=config.regions,
        box_predictor=FastRCNNPredictor(encoder.num_features, num_classes + 1),
    )
