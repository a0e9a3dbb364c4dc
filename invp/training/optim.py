"""The optimiser of a training, and its learning rate and weight decay over epochs or steps."""

import math

import torch
from torch import nn

from invp.models.libraries import imported


def build_optimizer(model: nn.Module, training: dict) -> torch.optim.Optimizer:
    """The optimiser of the section `training` over the model's trainable parameters.

    Without `decay_norms` it has two groups: what decays, and biases, the weights of normalisations, and positions, class token and
    registers of a transformer, which do not.
    """
    # Raw pixels have nothing to train; an optimizer wants a tensor all the same.
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad] or [("", torch.zeros(0, requires_grad=True))]
    spared = set() if training["decay_norms"] else _spared(model)
    groups = [{"params": [p for name, p in named if name not in spared]}]
    if not training["decay_norms"]:
        groups.append({"params": [p for name, p in named if name in spared], "weight_decay": 0.0})
    groups = [group for group in groups if group["params"]]
    common = {"lr": training["learning_rate"], "weight_decay": training["weight_decay"]}
    if training["optimizer"] == "adamw":
        return torch.optim.AdamW(groups, betas=tuple(training["betas"]), fused=True, **common)
    common |= {"momentum": training["momentum"], "nesterov": training["nesterov"]}
    if training["optimizer"] == "lars":
        lars = imported("timm.optim.lars").Lars
        for number, group in enumerate(groups):
            group["always_adapt"] = number == 0  # scaled though nothing decays; biases and normalisations are not
        return lars(groups, trust_coeff=training["trust"], **common)
    return torch.optim.SGD(groups, **common)


def _spared(model: nn.Module) -> set[str]:
    """Names of the parameters that are biases or weights of normalisations, or that one of timm's networks in the model wants spared."""
    found = {name for name, parameter in model.named_parameters() if parameter.ndim <= 1 or name.endswith(".bias")}
    for start, module in model.named_modules():
        if hasattr(module, "no_weight_decay"):
            found |= {f"{start}.{name}".removeprefix(".") for name in module.no_weight_decay()}
    return found


def set_schedule(optimizer: torch.optim.Optimizer, training: dict, position: float, shift: int = 0) -> float:
    """Gives the optimiser the learning rate and the weight decay of a position in the training, and returns the rate.

    `position` counts epochs from 0, with the share of the epoch that is done; `shift` epochs are added for the rate.
    """
    rate = learning_rate(training, position + shift)
    for group in optimizer.param_groups:
        group["lr"] = rate
    if training["weight_decay_end"] is not None:
        optimizer.param_groups[0]["weight_decay"] = weight_decay(training, position)
    return rate


def learning_rate(training: dict, position: float) -> float:
    """The rate at a position (epochs from 0): multi-step, cosine or constant, after a linear warm-up.

    By epoch it is that of the whole epoch, and a warm-up of w epochs begins with 1/w of the rate; by step it begins with 0.
    """
    base, warmup, by_step = training["learning_rate"], training["warmup_epochs"], training["schedule_by"] == "step"
    position = position if by_step else math.floor(position)
    if position < warmup:
        return base * (position + (not by_step)) / warmup
    if training["schedule"] == "multistep":
        return base * training["drop_factor"] ** sum(position >= drop for drop in training["drops"])
    if training["schedule"] == "cosine":
        done = (position - warmup) / max(1, training["epochs"] - warmup)
        final = training["final_rate"]
        return final + 0.5 * (base - final) * (1 + math.cos(math.pi * done))
    return base


def weight_decay(training: dict, position: float) -> float:
    """The weight decay at a position (epochs from 0): half a cosine from `weight_decay` to `weight_decay_end`."""
    position = position if training["schedule_by"] == "step" else math.floor(position)
    start, end = training["weight_decay"], training["weight_decay_end"]
    return end + 0.5 * (start - end) * (1 + math.cos(math.pi * position / training["epochs"]))
