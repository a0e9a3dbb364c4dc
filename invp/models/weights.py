"""Given weights instead of a random start: torchvision's, MoCo's, lightly's or any state dict with a prefix, in .pt, .pth or .safetensors."""

import os
import pickle
from pathlib import Path

import torch
from torch import nn

from invp.plumbing.errors import UserError

# What stands before the ResNet's own names in known files.
PREFIXES = ("encoder.", "module.encoder_q.", "module.", "backbone.", "model.", "objective.encoder.", "")
# lightly and others keep the ResNet as nn.Sequential: the place of each part.
SEQUENTIAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, without executing code in it; nested `state_dict`, `model` or `objective` are opened."""
    if not path.exists():
        raise UserError(f"weights.file: {path} does not exist")
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


def mapped(state: dict[str, torch.Tensor], names: list[str], prefix: str | None) -> dict[str, torch.Tensor]:
    """The tensors under the encoder's own names; `prefix` None tries the known ones and keeps the one that fits most."""

    def under(start: str) -> dict[str, torch.Tensor]:
        found = {}
        for key, value in state.items():
            if key.startswith(start):
                first, _, rest = key.removeprefix(start).partition(".")
                found[f"{SEQUENTIAL.get(first, first)}.{rest}"] = value
        return {key: value for key, value in found.items() if key in names}

    return under(prefix) if prefix is not None else max(map(under, PREFIXES), key=len)


def load_weights(encoder: nn.Module, options: dict) -> None:
    """Loads `file` (relative paths lie under INVP_DATA) into the encoder; UserError names what is missing or does not fit."""
    unknown = set(options) - {"file", "prefix", "sha256"}
    if unknown or "file" not in options:
        raise UserError(f"weights: needs 'file', and may have 'prefix'; not {', '.join(sorted(unknown)) or 'nothing'}")
    path = Path(os.environ.get("INVP_DATA", ".")) / options["file"]
    own = encoder.state_dict()
    found = mapped(read_state(path), list(own), options.get("prefix"))
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
