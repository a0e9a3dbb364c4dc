"""Given weights instead of a random start: torchvision's, MoCo's, lightly's or any state dict with a prefix, in .pt, .pth or .safetensors."""

import pickle
from pathlib import Path

import torch
from torch import nn

from invp.plumbing.config import data_root
from invp.plumbing.errors import UserError
from invp.plumbing.files import sha256_of

# What stands before the ResNet's own names in known files.
PREFIXES = ("encoder.", "module.encoder_q.", "module.", "backbone.", "model.", "objective.encoder.", "")
# lightly and others keep the ResNet as nn.Sequential: the place of each part.
SEQUENTIAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, without executing code in it; nested `state_dict`, `model` or `objective` are opened."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(f"weights.file: {path} is damaged or holds more than tensors: {str(error).splitlines()[0]}") from None
    for key in ("state_dict", "model", "objective"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def mapped(state: dict[str, torch.Tensor], names: list[str], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors under the encoder's own names; an empty `prefix` tries the known ones and keeps the one that fits most."""

    def under(start: str) -> dict[str, torch.Tensor]:
        found = {}
        for key, value in state.items():
            if key.startswith(start):
                first, _, rest = key.removeprefix(start).partition(".")
                found[f"{SEQUENTIAL.get(first, first)}.{rest}"] = value
        return {key: value for key, value in found.items() if key in names}

    return under(prefix) if prefix else max(map(under, PREFIXES), key=len)


def load_weights(encoder: nn.Module, options: dict) -> None:
    """Loads the file of the section `weights` into the encoder.

    UserError names a file that is missing or is not the one whose digest the section has, and tensors that are missing or do not fit.
    """
    path = data_root() / options["file"]
    if not path.exists():
        raise UserError(f"weights.file: {path} does not exist")
    if (digest := sha256_of(path)) != options["sha256"]:
        raise UserError(f"weights.file: {path} has the SHA-256 {digest}, and the experiment names {options['sha256']}")
    own = encoder.state_dict()
    found = mapped(read_state(path), list(own), options["prefix"])
    missing = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    if missing:
        raise UserError(
            f"weights.file: {path} lacks {len(missing)} of the encoder's {len(own)} tensors, e.g. {missing[0]}; set weights.prefix"
        )
    wrong = [name for name, value in found.items() if value.shape != own[name].shape]
    if wrong:
        raise UserError(
            f"weights.file: {path}: {wrong[0]} has shape {tuple(found[wrong[0]].shape)}, the encoder {tuple(own[wrong[0]].shape)}"
        )
    encoder.load_state_dict(found, strict=False)
