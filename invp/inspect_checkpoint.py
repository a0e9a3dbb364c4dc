"""`python -m invp inspect checkpoint`: what lies in a checkpoint."""

import argparse
import json
from pathlib import Path


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m invp inspect checkpoint", description="Show what lies in a checkpoint.")
    parser.add_argument("checkpoint", type=Path)
    path = parser.parse_args(arguments).checkpoint
    from invp.pretrain import load_checkpoint

    state = load_checkpoint(path)
    print(f"{path}: epoch {state['epoch']}, code {state['code']}")
    print(f"versions: {', '.join(f'{k} {v}' for k, v in state['versions'].items())}")
    print(f"section: {json.dumps(json.loads(state['section']), indent=1)}")
    for name, value in state["objective"].items():
        print(f"  {name:48} {str(tuple(value.shape)):20} {str(value.dtype).removeprefix('torch.')}")
    total = sum(value.numel() * value.element_size() for value in state["objective"].values())
    print(f"  {len(state['objective'])} tensors, {total / 2**20:.1f} MiB")
    return 0
