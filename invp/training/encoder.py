"""The trained encoder by itself, for use elsewhere: `invp.load_encoder`, and what an export says of it.

Apart from checkpoints, since its transform belongs to no step: an edit of augmentation runs no graph again.
"""

import json
from pathlib import Path

from torch import nn

from invp.data.transform import Transform
from invp.models.encoders import build_encoder
from invp.models.transformers import plain
from invp.models.weights import read_safetensors, read_saved
from invp.plumbing.errors import UserError
from invp.plumbing.files import canonical_json
from invp.training.checkpoint import encoder_state


def metadata(state: dict) -> dict[str, str]:
    """What an export says of the network of a checkpoint, each value as JSON: all that it takes to build the encoder and to feed it.

    `resize` is whole or central crop; it and `classes`, of the training images, are left out where an older checkpoint does not know them.
    """
    section, dataset = json.loads(state["section"]), state.get("dataset")
    encoder, augmentation = section["encoder"], section["augmentation"]
    values = {"architecture": encoder["name"], "encoder": encoder, "image_size": augmentation["size"]}
    values |= {"mean": augmentation["mean"], "std": augmentation["std"]}
    if dataset:
        values |= {"resize": "whole" if dataset["format"] == "uint8" else "central crop", "classes": dataset["classes"]}
    return {"producer": '"invp"', **{key: canonical_json(value) for key, value in values.items()}}


def load_encoder(path: Path | str) -> nn.Module:
    """The encoder of a checkpoint, or of an export to safetensors or torchvision, in evaluation mode: images Bx3xHxW, normalised as in
    training, -> features BxF.

    Its attribute `transform` makes such an image, 3xsizexsize, of one of Pillow or of a uint8 tensor CxHxW; None of a checkpoint that is
    too old to say how. UserError if the file is none of these.
    """
    path = Path(path)
    if path.suffix == ".safetensors":
        tensors, about = read_safetensors(path)
    else:
        state = read_saved(path, ": if it is a checkpoint, delete it and run the workflow again")
        if isinstance(state, dict) and {"objective", "section"} <= set(state):
            tensors, about = encoder_state(state), metadata(state)
        else:
            tensors, about = state, getattr(state, "metadata", {})
    if about.get("producer") != '"invp"':
        raise UserError(
            f"{path} is neither a checkpoint of this workflow (results/EXPERIMENT/seed-S/pretrain/stage-E/checkpoint.pt) nor an export of "
            "one to safetensors or torchvision"
        )
    known = {key: json.loads(value) for key, value in about.items() if key != "format"}
    size, mean, std = known["image_size"], known["mean"], known["std"]
    encoder = build_encoder(known["encoder"], size, mean=mean, std=std)
    try:
        plain(encoder).load_state_dict(tensors)
    except RuntimeError as error:
        raise UserError(f"{path} does not hold the encoder that it names: {str(error).splitlines()[0]}") from None
    encoder.transform = Transform(size, mean, std, known["resize"] == "whole") if "resize" in known else None
    return encoder.eval()
