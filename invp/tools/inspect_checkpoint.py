"""Show what lies in a checkpoint: epoch, code, section, and every tensor."""

import argparse
import json
from pathlib import Path

from invp.training.checkpoint import load_checkpoint


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("checkpoint", type=Path)


def run(arguments: argparse.Namespace) -> None:
    """Prints the checkpoint."""
    state = load_checkpoint(arguments.checkpoint)
    print(f"{arguments.checkpoint}: epoch {state['epoch']}, code {state['code']}")
    print(f"versions: {', '.join(f'{k} {v}' for k, v in state['versions'].items())}")
    print(f"section: {json.dumps(json.loads(state['section']), indent=1)}")
    for name, value in state["objective"].items():
        print(f"  {name:48} {str(tuple(value.shape)):20} {str(value.dtype).removeprefix('torch.')}")
    total = sum(value.numel() * value.element_size() for value in state["objective"].values())
    print(f"  {len(state['objective'])} tensors, {total / 2**20:.1f} MiB")
