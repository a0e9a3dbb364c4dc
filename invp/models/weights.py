"""Given weights instead of a random start: torchvision's, timm's, MoCo's, lightly's or any state dict with a prefix, in .pt, .pth or
.safetensors."""

import pickle
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import nn

from invp.models.transformers import plain
from invp.plumbing.config import data_root
from invp.plumbing.errors import UserError
from invp.plumbing.files import sha256_of

# What stands before the network's own names in known files.
PREFIXES = (
    "encoder.", "encoder.vit.", "module.encoder_q.", "module.base_encoder.", "module.", "backbone.", "model.", "objective.encoder.", ""
)  # fmt: skip
# lightly and others keep the ResNet as nn.Sequential: the place of each part.
SEQUENTIAL = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}


def read_saved(path: Path, advice: str = "") -> Any:
    """What torch.save wrote, on the CPU, without executing code in it.

    UserError if it is missing, damaged (`advice` says what to do then), or holds what could run code. Torch's own words, which tell how to
    run that code, are kept back.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # which tells how to run a program that lies in the file
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (IsADirectoryError, PermissionError) as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from None
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, AttributeError, pickle.UnpicklingError) as error:
        named = re.search(r"GLOBAL (\S+) was not|whose module (\S+) is blocked", str(error))
        if named or "TorchScript" in str(error):
            what = next(filter(None, named.groups())) if named else "a TorchScript program"
            raise UserError(
                f"{path} holds {what}, which would run code when it is read, and is refused: write the tensors alone, by "
                "torch.save(network.state_dict(), FILE) or as .safetensors"
            ) from None
        raise UserError(f"{path} is damaged, or no file of tensors{advice}") from None


def read_safetensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and the metadata of a .safetensors file; UserError if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged, or no safetensors file ({str(error).splitlines()[0]})") from None


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a file; nested `state_dict`, `model` or `objective` are opened."""
    if path.suffix == ".safetensors":
        return read_safetensors(path)[0]
    state = read_saved(path)
    for key in ("state_dict", "model", "objective"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    return {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}


def mapped(state: dict[str, torch.Tensor], names: list[str], prefix: str) -> dict[str, torch.Tensor]:
    """The tensors under the network's own names; an empty `prefix` tries the known ones and keeps the one that fits most."""
    places = SEQUENTIAL if "conv1.weight" in names else {}

    def under(start: str) -> dict[str, torch.Tensor]:
        found = {}
        for key, value in state.items():
            if key.startswith(start):
                first, *rest = key.removeprefix(start).split(".")
                found[".".join([places.get(first, first), *rest])] = value
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
    network = plain(encoder)
    own = network.state_dict()
    try:
        found = mapped(read_state(path), list(own), options["prefix"])
    except UserError as error:
        raise UserError(f"weights.file: {error}") from None
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
    network.load_state_dict(found, strict=False)
