"""The optimiser of a training and its learning rate over epochs."""

import math

import torch
from torch import nn


def build_optimizer(model: nn.Module, training: dict) -> torch.optim.Optimizer:
    """SGD over the model's trainable parameters with the options of the section `training`."""
    # Raw pixels have nothing to train; an optimizer wants a tensor all the same.
    parameters = [p for p in model.parameters() if p.requires_grad] or [torch.zeros(0, requires_grad=True)]
    return torch.optim.SGD(
        parameters,
        lr=training["learning_rate"],
        momentum=training["momentum"],
        nesterov=training["nesterov"],
        weight_decay=training["weight_decay"],
    )


def learning_rate(training: dict, epoch: int) -> float:
    """The rate of an epoch, which counts from 1: multi-step, cosine or constant, after a linear warm-up."""
    base, warmup = training["learning_rate"], training["warmup_epochs"]
    if epoch <= warmup:
        return base * epoch / warmup
    if training["schedule"] == "multistep":
        return base * training["drop_factor"] ** sum(epoch > drop for drop in training["drops"])
    if training["schedule"] == "cosine":
        done = (epoch - 1 - warmup) / max(1, training["epochs"] - warmup)
        return 0.5 * base * (1 + math.cos(math.pi * done))
    return base
