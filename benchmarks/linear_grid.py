"""A grid of 45 linear heads trained together beside 45 trainings one after another, and all blocks' probes from one pass over the images.

Run: `python -m benchmarks.linear_grid` (`--rounds 5 --json FILE`). The sides take turns; the table holds medians. The exit status is 1 where
a floor (10 times) is missed or weights differ by more than 1e-5.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

from benchmarks._common import median_seconds, write_results
from invp.data.batches import eval_batches
from invp.data.shards import Shards
from invp.evals import linear, linear_blocks
from invp.models.encoders import build_encoder
from invp.plumbing.config import plugin_options
from invp.steps import prepare

FLOOR = 10.0
GRID = [(rate, decay) for rate in np.logspace(-3, 0, 9).tolist() for decay in (0.0, 1e-5, 1e-4, 1e-3, 1e-2)]
SMALL = {"name": "resnet_small", "stem": "auto", "norm": "batch", "width": 8, "blocks": 2, "zero_init_residual": False}


def heads(rounds: int) -> dict:
    """45 heads on 4,096 features of 128 numbers, ten classes, three epochs."""
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(4096, 128, generator=generator), torch.randint(0, 10, (4096,), generator=generator)
    schedule = {"epochs": 3, "batch_size": 256, "seed": 0}
    together = linear.train_heads(features, labels, 10, GRID, **schedule)

    def one(rate: float, decay: float) -> torch.nn.Linear:
        """As anybody writes it: a module, autograd, torch's optimiser."""
        head = torch.nn.Linear(128, 10)
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
        groups = [{"params": [head.weight], "weight_decay": decay}, {"params": [head.bias], "weight_decay": 0.0}]
        optimizer = torch.optim.SGD(groups, rate, momentum=0.9)
        order = torch.Generator().manual_seed(0)
        step, steps = 0, 3 * 16
        for _ in range(3):
            for index in torch.randperm(4096, generator=order).split(256):
                for group in optimizer.param_groups:
                    group["lr"] = rate * 0.5 * (1 + np.cos(np.pi * step / steps))
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(head(features[index]), labels[index]).backward()
                optimizer.step()
                step += 1
        return head

    separate = [one(*pair) for pair in GRID]
    scale = max(float(head.weight.detach().abs().max()) for head in separate)
    difference = max(
        float((weight.T - head.weight.detach()).abs().max()) for weight, head in zip(together[0], separate, strict=True)
    )
    seconds = median_seconds(
        {
            "together": lambda: linear.train_heads(features, labels, 10, GRID, **schedule),
            "one by one": lambda: [one(*pair) for pair in GRID],
        },
        rounds,
    )
    return {**seconds, "largest difference of a weight": difference, "largest weight": scale}


def blocks(rounds: int, scratch: Path) -> dict:
    """Probes of the seven blocks of a small ResNet on digits: features of one pass beside a pass for each probe and epoch."""
    for split in ("train", "test"):
        prepare.write_split(plugin_options("datasets", {"name": "digits"}, "benchmark"), split, None, scratch / split, 1)
    torch.manual_seed(0)
    encoder = build_encoder(SMALL, 32).eval()
    inputs = SimpleNamespace(encoder=encoder, size=32, mean=[0.3] * 3, std=[0.4] * 3)
    shards, epochs = Shards(scratch / "train"), 5
    config = linear_blocks.Config(learning_rates=[0.1], weight_decays=[0.0], epochs=epochs)
    common = {"size": 32, "mean": inputs.mean, "std": inputs.std, "device": "cpu"}

    def once() -> None:
        rows, labels = linear_blocks.block_features(inputs, scratch / "train", config, "cpu")
        for features in rows.values():
            linear.train_heads(torch.from_numpy(features).float(), torch.from_numpy(labels), 10, [(0.1, 0.0)], epochs=epochs,
                               batch_size=256, seed=0)  # fmt: skip

    def each() -> None:
        for place, name in enumerate(encoder.block_names):
            head, optimizer = None, None
            for _ in range(epochs):
                for index, images in eval_batches(shards, batch_size=256, **common):
                    with torch.no_grad():
                        features = linear_blocks.pooled(encoder.blocks(images)[place], config)
                    if head is None:
                        head = torch.nn.Linear(features.shape[1], 10)
                        optimizer = torch.optim.SGD(head.parameters(), 0.1, momentum=0.9)
                    optimizer.zero_grad()
                    torch.nn.functional.cross_entropy(head(features), shards.labels[index]).backward()
                    optimizer.step()
            assert name and head is not None

    return median_seconds({"one pass": once, "a pass for each": each}, rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        found = {"45 heads": heads(arguments.rounds), "all blocks": blocks(min(2, arguments.rounds), Path(scratch))}
    ratios = {
        "45 heads": found["45 heads"]["one by one"] / found["45 heads"]["together"],
        "all blocks": found["all blocks"]["a pass for each"] / found["all blocks"]["one pass"],
    }
    difference = found["45 heads"]["largest difference of a weight"]
    for name, ratio in ratios.items():
        print(f"{name}: {ratio:.1f} x (floor {FLOOR:g})")
    print(f"largest difference of a weight: {difference:.1e} of weights up to {found['45 heads']['largest weight']:.2f}")
    if arguments.json:
        write_results(arguments.json, {"seconds": found, "ratios": ratios})
    return int(min(ratios.values()) < FLOOR or difference > 1e-5)


if __name__ == "__main__":
    sys.exit(main())
