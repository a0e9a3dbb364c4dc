"""Write the encoder of a checkpoint for another library."""

import argparse
import json
import pickle
from collections import OrderedDict
from pathlib import Path

import torch

from invp.models.encoders import stem_of
from invp.models.image_encoder import ImageEncoder
from invp.models.transformers import Transformer
from invp.plumbing.encoder_options import VITS
from invp.plumbing.errors import UserError
from invp.plumbing.files import atomic_path
from invp.training.checkpoint import encoder_state, load_checkpoint
from invp.training.encoder import load_encoder, metadata

EXAMPLE = 160  # pixels of the image that ONNX's graph is traced with: no network here is so deep that it has none left
FORMATS = ("torchvision", "timm", "detectron2", "safetensors", "onnx")


def detectron2_name(key: str) -> str:
    """A ResNet's tensor under detectron2's name: layer1 is res2, batch norms are .norm of their convolution."""
    if not key.startswith("layer"):
        return "stem." + key.replace("bn1", "conv1.norm")
    for number in range(1, 5):
        key = key.replace(f"layer{number}", f"res{number + 1}")
    for number in range(1, 4):
        key = key.replace(f"bn{number}", f"conv{number}.norm")
    return key.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")


def for_colours(section: dict, kind: str, checkpoint: Path) -> None:
    """UserError for a format that has the network's tensors alone, of a network that does not see an image's colours as they are."""
    seen = section["encoder"].get("input", "rgb")
    if seen != "rgb" and kind in ("torchvision", "timm", "detectron2"):
        raise UserError(
            f"{checkpoint} holds a network with encoder.input {seen}, and {kind} would give it the colours as they are; "
            "use safetensors and invp.load_encoder, or onnx"
        )


def for_resnets(section: dict, kind: str, checkpoint: Path) -> None:
    """UserError for a format of ResNets, of a transformer."""
    if section["encoder"]["name"] in VITS and kind in ("torchvision", "detectron2"):
        raise UserError(
            f"{checkpoint} holds {section['encoder']['name']}, of whose tensors {kind} knows no names; use timm, safetensors or onnx"
        )


def for_timm(section: dict, checkpoint: Path) -> None:
    """UserError where timm has no network of this shape: its ResNets have the stem for ImageNet."""
    encoder = section["encoder"]
    if encoder["name"] == "resnet_small" or stem_of(encoder) != "imagenet" or encoder["norm"] != "batch":
        raise UserError(
            f"{checkpoint} holds {encoder['name']}, stem {encoder['stem']}, norm {encoder['norm']}: timm has no such network; "
            "use safetensors and invp.load_encoder"
        )


def write_onnx(encoder: ImageEncoder, about: dict[str, str], out: Path) -> None:
    """The encoder as an ONNX graph: `images` Bx3xHxW -> `features` BxF, for any B, H and W, with what an export says of it.

    A transformer's has the size of the images that it was trained on.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise UserError("export to onnx needs the packages onnx and onnxscript: pip install onnx onnxscript") from None
    fixed = isinstance(encoder, Transformer)
    free = {axis: torch.export.Dim.DYNAMIC for axis in ((0,) if fixed else (0, 2, 3))}
    size = (encoder.image_size, encoder.image_size) if fixed else (EXAMPLE, EXAMPLE + 32)
    program = torch.onnx.export(
        encoder.eval(), (torch.zeros(2, 3, *size),), dynamo=True, verbose=False,
        input_names=["images"], output_names=["features"], dynamic_shapes=({**free},),
    )  # fmt: skip
    program.model.metadata_props.update(about)
    program.save(out, external_data=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--to", required=True, choices=FORMATS)
    parser.add_argument("--out", type=Path, required=True)


def run(arguments: argparse.Namespace) -> None:
    """Writes the encoder of a checkpoint."""
    checkpoint, kind, out = arguments.checkpoint, arguments.to, arguments.out
    state = load_checkpoint(checkpoint)
    tensors, section, about = encoder_state(state), json.loads(state["section"]), metadata(state)
    if not tensors:
        raise UserError(f"{checkpoint} holds no encoder with weights: raw pixels cannot be exported")
    for_resnets(section, kind, checkpoint)
    for_colours(section, kind, checkpoint)
    if kind == "timm":
        for_timm(section, checkpoint)
    with atomic_path(out) as temporary:
        if kind in ("torchvision", "timm"):  # timm kept torchvision's names of ResNets
            named = OrderedDict(tensors)
            named.metadata = about  # load_state_dict does not see it; torch.save keeps it, as it does a state_dict's own _metadata
            torch.save(named, temporary)
        elif kind == "onnx":
            write_onnx(load_encoder(checkpoint), about, temporary)
        elif kind == "safetensors":
            from safetensors.torch import save_file

            save_file({key: value.contiguous() for key, value in tensors.items()}, temporary, about | {"format": "pt"})
        else:
            renamed = {detectron2_name(key): value.numpy() for key, value in tensors.items() if "num_batches" not in key}
            # detectron2 reads a pickle of NumPy arrays; we write it, and read none.
            temporary.write_bytes(pickle.dumps({"model": renamed, "__author__": "InvP", "matching_heuristics": True}))
    print(f"{kind}: {out}, {len(tensors)} tensors")
