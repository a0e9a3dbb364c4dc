"""A whole objective, with its encoder and its head: as a section describes it, or as a checkpoint holds it."""

from pathlib import Path

import torch
from torch import nn

from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.models.weights import load_weights
from invp.plumbing.config import instance
from invp.plumbing.errors import UserError
from invp.plumbing.plugins import load_plugin
from invp.training.checkpoint import load_checkpoint


def build_objective(section: dict, num_samples: int) -> nn.Module:
    """The objective of the section with its encoder and head, initialised from the section's seed alone."""
    module = load_plugin("objectives", section["objective"]["name"])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(section["seed"])
        augmentation = section["augmentation"]
        encoder = build_encoder(section["encoder"], augmentation["size"], mean=augmentation["mean"], std=augmentation["std"])
        encoder.bf16 = section["training"]["precision"] == "bf16"
        if section["weights"]:
            load_weights(encoder, section["weights"])
        head = build_head(section["head"], encoder.num_features)
        config = instance(module.Config, section["objective"])
        objective = module.Objective(config, encoder, head, num_samples, seed=section["seed"])
    objective.stages = section["graph_stages"]
    objective.steady = getattr(module, "steady", None)  # says which epochs' steps are replayed on a GPU
    return objective


def load_objective(section: dict, checkpoint: Path, num_samples: int) -> nn.Module:
    """The objective of a checkpoint, in evaluation mode on the CPU and in 32 bits, as evaluations have the encoder.

    `section` has `objective`, `encoder`, `head`, `augmentation` and `seed`; `num_samples` is that of the training images.
    """
    unused = {"training": {"precision": "fp32"}, "weights": None, "graph_stages": []}
    objective = build_objective({**section, **unused}, num_samples)
    state = load_checkpoint(checkpoint)
    try:
        objective.load_state_dict(state["objective"])
    except RuntimeError as error:
        raise UserError(f"{checkpoint} does not fit the experiment: {str(error).splitlines()[0]}") from None
    return objective.eval()
