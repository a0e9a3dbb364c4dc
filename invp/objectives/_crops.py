"""What objectives share that take large and small views of an image: the first two are large. V views, b images, F features."""

from itertools import groupby

import torch
from torch import Tensor, nn

LARGE = 2  # views from which targets are made, the first ones


def features_of(encoder: nn.Module, views: list[Tensor]) -> Tensor:
    """The features (V b)xF of the views, view by view; the encoder runs once for each size of view, as in the code of SwAV and DINO."""
    sizes = groupby(views, key=lambda view: view.shape[1:])
    return torch.cat([encoder(torch.cat(list(group))) for _, group in sizes])
