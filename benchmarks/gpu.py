"""What only a GPU shows: steps a second with InvP and without, the whole loop on small images, and the exact graph of ImageNet's size.

Run: `INVP_DATA=... python -m benchmarks.gpu --json benchmarks/results/gpu.json` (`--rounds 5 --steps 20 --only steps loop search graph`, `--num-samples`).
INVP_DATA holds cifar10/test-*.parquet. Sides take turns in one process; the figures are medians. The device is waited for around each side's
steps and not within.

steps: batches that lie on the device already, ResNet-50 at 224 pixels and ResNet-18 with CIFAR's stem at 32, in 16 bits: a loss of one line
(bare), the instance loss and InvP with N = 1,281,167 and M = 4,096 after the ramp; each as a CUDA graph, as trainings with one GPU launch
them, and launch by launch.
loop: the training loop of `cifar10-invp` on CIFAR-10's test images, augmentation and all, and its steps alone on one batch.
search: the 4,096 nearest of N rows for 128 queries, as a step of InvP searches them and in blocks of 131,072 rows, and the product alone.
graph: the 4 nearest of each of N rows of 128 numbers, itself left out, in 32 bits: what `graph: epoch` and `stage` do.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks._common import median_seconds, write_results
from benchmarks.training import Loop, section
from invp.core.neighbours import in_fp32, knn_graph, search_block, top_k
from invp.data.batches import epoch_order
from invp.plumbing.config import plugin_options
from invp.steps import prepare
from invp.training.distributed import join
from invp.training.gradients import Gradients
from invp.training.objective import build_objective
from invp.training.optim import build_optimizer

NETWORKS = {
    "resnet50, 224 px": ({"name": "resnet50", "stem": "imagenet"}, 224, 128),
    "resnet18, 32 px": ({"name": "resnet18", "stem": "cifar"}, 32, 128),
}


PARTS = ("steps", "loop", "search", "graph")


def waited(run: Callable[[], object], device: torch.device) -> Callable[[], None]:
    """The function, after which the device has done all that was asked of it."""

    def whole() -> None:
        run()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return whole


class Bare(torch.nn.Module):
    """An objective of one line, without memory."""

    def __init__(self, objective: torch.nn.Module) -> None:
        super().__init__()
        self.encoder, self.head, self.config, self.steady = objective.encoder, objective.head, None, lambda config, epoch: ()

    def forward(self, views: list[torch.Tensor], index: torch.Tensor, epoch: int) -> dict:
        return {"loss": self.head(self.encoder(views[0])).float().square().mean(), "memory": {}}

    def end_step(self, index: torch.Tensor, memory: dict) -> None:
        """Does nothing."""


def stepped(options: dict, num_samples: int, images: torch.Tensor, bare: bool, replaying: bool) -> Callable[[], None]:
    """One step of a training on these images: forward, backward, optimiser, and what the objective writes."""
    device, batch = images.device, len(images)
    objective = build_objective(options, num_samples).to(device, memory_format=torch.channels_last)
    objective = Bare(objective) if bare else objective
    optimizer = build_optimizer(objective, options["training"])
    gradients = Gradients(objective, objective, optimizer, join())
    gradients.can_replay &= replaying
    if hasattr(objective, "table"):  # a graph that is there
        generator = torch.Generator().manual_seed(0)
        objective.table.copy_(torch.randint(0, num_samples, objective.table.shape, generator=generator))
    index = epoch_order(num_samples, 0, 1)[:batch].to(device)

    def step() -> None:
        output = gradients(31, index, [images])
        optimizer.step()
        objective.end_step(index, output["memory"])

    return step


def steps(num_samples: int, rounds: int, count: int, device: torch.device) -> dict[str, dict[str, float]]:
    """Seconds of a step, by network and side."""
    found = {}
    for name, (encoder, size, batch) in NETWORKS.items():
        images = torch.randn(batch, 3, size, size, generator=torch.Generator().manual_seed(0)).to(device)
        images = images.contiguous(memory_format=torch.channels_last)
        sides = {}
        for side, objective in {"bare": "invp", "instance": "instance_discrimination", "invp": "invp"}.items():
            options = section("invp", encoder, size, batch, "bf16")
            if objective != "invp":
                choice = {"name": objective, "num_negatives": 4096, "temperature": 0.2}
                options["objective"] = plugin_options("objectives", choice, "benchmark")
            for how, replaying in (("graph", True), ("launches", False)):
                one = stepped(options, num_samples, images, side == "bare", replaying)
                sides[f"{side}, {how}"] = waited(lambda one=one: [one() for _ in range(count)], device)
        seconds = found[name] = {side: value / count for side, value in median_seconds(sides, rounds).items()}
        rates = ", ".join(f"{side} {1000 * s:.2f} ms ({batch / s:,.0f} images/s)" for side, s in seconds.items())
        added = [f"{100 * (seconds[f'invp, {how}'] / seconds[f'bare, {how}'] - 1):.1f} % ({how})" for how in ("graph", "launches")]
        print(f"{name}, batches of {batch}: {rates}; InvP adds {' and '.join(added)}", flush=True)
    return found


def loop(rounds: int, device: torch.device) -> dict[str, float]:
    """Images a second of the loop and of its steps on one batch, on CIFAR-10's 10,000 test images."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(os.environ.get("INVP_DATA", "data"))
        prepare.write_split(plugin_options("datasets", {"name": "cifar10"}, "benchmark"), "test", root, Path(scratch) / "test", 4)
        own = Loop(section("invp", NETWORKS["resnet18, 32 px"][0], 32, 128, "bf16"), Path(scratch) / "test", 4, join())
        sides = {"whole loop": own.whole, "steps on one batch": own.network, "batches": own.loader}
        seconds = median_seconds({name: waited(run, device) for name, run in sides.items()}, rounds)
    rates = {name: own.images / value for name, value in seconds.items()}
    print("cifar10-invp: " + ", ".join(f"{name} {rate:,.0f} images/s" for name, rate in rates.items()), flush=True)
    return rates


def search(num_samples: int, rounds: int, count: int, device: torch.device) -> dict[str, float]:
    """Seconds of a search of the nearest 4,096 rows."""
    rows = torch.randn(num_samples, 128, generator=torch.Generator(device).manual_seed(0), device=device)
    rows = torch.nn.functional.normalize(rows, dim=1)
    queries, nearest = rows[:128].clone(), min(4096, num_samples)
    block = search_block(queries, num_samples, whole=False)
    sides = {
        "product": lambda: queries @ rows.T,
        "search": lambda: top_k(queries, rows, nearest, block=block),
        "search, blocks of 131072": lambda: top_k(queries, rows, nearest, block=131072),
    }
    with in_fp32():
        seconds = median_seconds(
            {name: waited(lambda run=run: [run() for _ in range(count)], device) for name, run in sides.items()}, rounds
        )
    found = {name: value / count for name, value in seconds.items()}
    print(f"{num_samples:,} rows: " + ", ".join(f"{name} {1000 * value:.2f} ms" for name, value in found.items()), flush=True)
    return found


def graph(num_samples: int, device: torch.device) -> dict[str, float]:
    """Seconds, and the share of the true neighbours of 100 rows, in 64 bits, that were found."""
    rows = torch.randn(num_samples, 128, generator=torch.Generator(device).manual_seed(0), device=device)
    rows = torch.nn.functional.normalize(rows, dim=1)
    knn_graph(rows[:4096], 4)
    started = time.perf_counter()
    neighbours = knn_graph(rows, 4)[1][:100].cpu()
    seconds = time.perf_counter() - started
    similarity = rows[:100].double().cpu() @ rows.double().cpu().T
    similarity[torch.arange(100), torch.arange(100)] = -2
    true = similarity.topk(4).indices
    recall = float((neighbours[:, :, None] == true[:, None, :]).any(2).double().mean())
    print(f"exact graph of {num_samples:,} rows: {seconds:.1f} s, {recall:.3f} of the true neighbours", flush=True)
    return {"num_samples": num_samples, "seconds": seconds, "recall": recall}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="steps a round (default: 20)")
    parser.add_argument("--num-samples", type=int, default=1_281_167, help="N (default: ImageNet's)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    device = join().device
    torch.set_float32_matmul_precision("high")
    found: dict[str, object] = {}
    if "steps" in arguments.only:
        found["seconds_of_a_step"] = steps(arguments.num_samples, arguments.rounds, arguments.steps, device)
    if "loop" in arguments.only:
        found["images_per_second"] = loop(arguments.rounds, device)
    if "search" in arguments.only:
        found["seconds_of_a_search"] = search(arguments.num_samples, arguments.rounds, arguments.steps, device)
    if "graph" in arguments.only:
        found["exact_graph"] = graph(arguments.num_samples, device)
    if arguments.json:
        write_results(arguments.json, {**found, "num_samples": arguments.num_samples, "rounds": arguments.rounds})
    return 0


if __name__ == "__main__":
    sys.exit(main())
