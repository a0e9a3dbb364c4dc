"""Encoders for other libraries, and `load_encoder` for Python."""

import json
import pickle
from pathlib import Path

import torch
from torch import Tensor, nn

from invp.errors import UserError
from invp.files import atomic_path
from invp.models.encoders import build_encoder
from invp.pretrain import load_checkpoint

FORMATS = ("torchvision", "safetensors", "detectron2")


def load_encoder(path: Path | str) -> nn.Module:
    """The encoder of a checkpoint, in evaluation mode: images Bx3xHxW, normalised as in training, -> features BxF."""
    state = load_checkpoint(Path(path))
    section = json.loads(state["section"])
    encoder = build_encoder(section["encoder"], section["augmentation"]["size"])
    encoder.load_state_dict(encoder_state(state))
    return encoder.eval()


def encoder_state(state: dict) -> dict[str, Tensor]:
    """The encoder's tensors of a checkpoint under torchvision's names, without `fc`."""
    return {key.removeprefix("encoder."): value for key, value in state["objective"].items() if key.startswith("encoder.")}


def detectron2_name(key: str) -> str:
    """A ResNet's tensor under detectron2's name: layer1 is res2, batch norms are .norm of their convolution."""
    if not key.startswith("layer"):
        return "stem." + key.replace("bn1", "conv1.norm")
    for number in range(1, 5):
        key = key.replace(f"layer{number}", f"res{number + 1}")
    for number in range(1, 4):
        key = key.replace(f"bn{number}", f"conv{number}.norm")
    return key.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def run(checkpoint: Path, kind: str, out: Path) -> int:
    """Writes the encoder of a checkpoint to `out` in the format `kind`."""
    tensors = encoder_state(load_checkpoint(checkpoint))
    if not tensors:
        raise UserError(f"{checkpoint} holds no encoder with weights: raw pixels cannot be exported")
    with atomic_path(out) as temporary:
        if kind == "torchvision":
            torch.save(tensors, temporary)
        elif kind == "safetensors":
            from safetensors.torch import save_file

            save_file({key: value.contiguous() for key, value in tensors.items()}, temporary)
        else:
            named = {detectron2_name(key): value.numpy() for key, value in tensors.items() if "num_batches" not in key}
            # detectron2 reads a pickle of NumPy arrays; we write it, and read none.
            temporary.write_bytes(pickle.dumps({"model": named, "__author__": "InvP", "matching_heuristics": True}))
    print(f"{kind}: {out}, {len(tensors)} tensors")
    return 0
