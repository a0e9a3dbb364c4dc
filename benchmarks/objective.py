"""Time and memory of InvP's loss, forward and backward, against the literal dense form of the authors' code.

Run: `OMP_NUM_THREADS=1 python -m benchmarks.objective` (add `--device cuda`, `--sizes 50000 1280000`, `--rounds 7`).

All sides do everything that one step does apart from the network: normalisation, similarities with N rows, the M
nearest, discovered positives, both losses, the gradient by the features, and the new rows of the graph's table. The
dense form lets autograd run through the BxN similarities; `official` does the same mathematics here, and its gradient
is compared; `paper` has the union and the exact background. The sides take turns, and the table holds medians and
ratios; memory is the peak above what lies there before a step: resident memory of a process of its own on a CPU,
torch's own count on a GPU. The gradients' difference is relative to the largest entry: `f64` the largest of all anchors
in float64, `f32` the median over anchors in float32, where rounding decides which of two rows is the M-th at an anchor
here and there. The exit status is 1 where the gradients differ, or where on a CPU a floor is missed.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks._common import as_a_job, write_results
from invp.objectives.invp import Config, Objective

DIMENSIONS = 128
TIME_FLOOR = {50_000: 3.0, 200_000: 6.0}  # dense time / our time
MEMORY_FLOOR = 1.5  # our peak, in units of 4BN bytes
GRADIENT_TOLERANCE = 1e-5
SIDES = ("dense", "official", "paper")


class Features(nn.Module):
    """Stands for the network: its features are its parameters."""

    num_features = DIMENSIONS

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = nn.Parameter(rows)

    def forward(self, x: Tensor) -> Tensor:
        return self.rows


def dense_step(rows: Tensor, bank: Tensor, table: Tensor, index: Tensor, config: Config) -> tuple[Tensor, Tensor]:
    """The loss as the authors compute it, and the new rows of the table: dense exponentials, sorted, under autograd."""
    feature = rows / rows.square().sum(1, keepdim=True).sqrt()
    term = torch.exp(feature @ bank.T / config.temperature)  # BxN
    own = term[torch.arange(len(index), device=term.device), index]
    near, near_index = term.topk(config.num_negatives, dim=1, largest=True, sorted=True)
    instance = -torch.log(own / near.sum(1) + 1e-7).mean()
    levels = [table[index]]
    for _ in range(config.steps - 1):
        levels.append(table[levels[-1]].flatten(1))
    hard = term.gather(1, torch.cat(levels, 1)).topk(config.num_positives, dim=1, largest=False, sorted=True).values
    invariance = -torch.log(hard.sum(1) / (near.sum(1) - own) + 1e-7).mean()
    nearest = near_index[:, : config.k + 1]
    new_rows = torch.where(nearest == index[:, None], nearest[:, -1:], nearest)[:, : config.k]
    return instance + config.weight * invariance, new_rows


@lru_cache(maxsize=1)
def drawn(num_samples: int, batch: int) -> tuple[Tensor, ...]:
    """The bank (NxD), the graph's table (Nx4), the images' numbers (B) and their features before they are normalised (BxD)."""
    generator = torch.Generator().manual_seed(0)
    bank = torch.empty(num_samples, DIMENSIONS).normal_(generator=generator)
    bank += 0.7 * torch.randn(100, DIMENSIONS, generator=generator)[0]  # similar in part, as the rows of a trained bank
    for part in bank.split(10_000):
        part.copy_(F.normalize(part, dim=1))
    table = torch.randint(0, num_samples, (num_samples, 4), generator=generator)
    index = torch.randperm(num_samples, generator=generator)[:batch]
    rows = bank[index] + 0.5 * torch.randn(batch, DIMENSIONS, generator=generator) / DIMENSIONS**0.5
    return bank, table, index, rows


def make_side(
    side: str, num_samples: int, batch: int, num_negatives: int, device: str, dtype=torch.float32
) -> tuple[Callable, nn.Parameter]:
    """A function that does one forward and backward pass, and the features whose gradient it leaves."""
    bank, table, index, rows = drawn(num_samples, batch)
    config = Config(num_negatives=num_negatives, ramp="constant", official_compat=side == "official")
    if side == "dense":
        parameter = nn.Parameter(rows.to(device, dtype))
        bank, table, index = bank.to(device, dtype), table.to(device), index.to(device)

        def step() -> None:
            parameter.grad = None
            dense_step(parameter, bank, table, index, config)[0].backward()

        return step, parameter
    objective = Objective(config, Features(rows), nn.Identity(), num_samples, seed=0)
    objective.bank, objective.table = bank.clone(), table.clone()
    objective.to(device, dtype)
    index = index.to(device)

    def step() -> None:
        objective.encoder.rows.grad = None
        objective([index], index, 1)["loss"].backward()

    return step, objective.encoder.rows


def synchronised(device: str) -> float:
    """The time after all that was asked of the device is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def median_seconds(steps: dict[str, Callable], rounds: int, device: str) -> dict[str, float]:
    """The median seconds of each side, which take turns."""
    seconds: dict[str, list[float]] = {side: [] for side in steps}
    for turn in range(rounds + 1):
        for side, step in steps.items():
            begin = synchronised(device)
            step()
            if turn:  # the first is for warming up
                seconds[side].append(synchronised(device) - begin)
    return {side: statistics.median(values) for side, values in seconds.items()}


def peak_bytes(side: str, options: argparse.Namespace, num_samples: int) -> int:
    """The peak of memory that one step of a side adds."""
    if options.device == "cuda":
        step, _ = make_side(side, num_samples, options.batch, options.num_negatives, options.device)
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return torch.cuda.max_memory_allocated() - before
    command = [sys.executable, "-m", "benchmarks.objective", "--memory-of", side, "--sizes", str(num_samples)]
    command += ["--batch", str(options.batch), "--num-negatives", str(options.num_negatives)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def own_peak(side: str, options: argparse.Namespace) -> int:
    """The growth of this process's peak resident memory over one step, after a small step has loaded every library."""
    small, _ = make_side(side, 5000, 8, 500, "cpu")
    small()
    step, _ = make_side(side, options.sizes[0], options.batch, options.num_negatives, "cpu")
    with open("/proc/self/clear_refs", "w") as clear:
        clear.write("5")  # resets the peak to what is resident now
    before = resident_kilobytes("VmRSS")
    step()
    return 1024 * (resident_kilobytes("VmHWM") - before)


def resident_kilobytes(field: str) -> int:
    """A field of this process's status in kB; the peak where the system has no such file."""
    try:
        with open("/proc/self/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(field))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def difference_of_gradients(one: Tensor, other: Tensor) -> Tensor:
    """The largest difference of each anchor's gradient (BxD), relative to the largest entry of all: B."""
    return (one - other).abs().amax(1) / one.abs().max()


def exact_difference(options: argparse.Namespace, num_samples: int) -> float:
    """The largest difference of the official side's gradient from the dense one's, both in float64."""
    gradients = []
    for side in ("dense", "official"):
        sizes = (num_samples, options.batch, options.num_negatives)
        step, parameter = make_side(side, *sizes, options.device, torch.float64)
        step()
        gradients.append(parameter.grad)
    return difference_of_gradients(*gradients).max().item()


def compare(options: argparse.Namespace, num_samples: int) -> tuple[bool, dict]:
    """Prints the rows of one N; whether every floor holds, and the figures."""
    made = {side: make_side(side, num_samples, options.batch, options.num_negatives, options.device) for side in SIDES}
    seconds = median_seconds({side: step for side, (step, _) in made.items()}, options.rounds, options.device)
    single = difference_of_gradients(made["dense"][1].grad, made["official"][1].grad).median().item()
    del made
    double = exact_difference(options, num_samples)
    unit = 4 * options.batch * num_samples
    memory = {side: peak_bytes(side, options, num_samples) / unit for side in SIDES}
    for side in SIDES:
        ratio = seconds["dense"] / seconds[side]
        print(
            f"{num_samples:>9} {side:>9} {1000 * seconds[side]:>9.1f} {ratio:>6.2f} "
            f"{memory[side]:>10.2f} {memory['dense'] / memory[side]:>6.2f} "
            + (f"{double:>9.0e} {single:>9.0e}" if side == "official" else ""),
            flush=True,
        )
    good = max(single, double) <= GRADIENT_TOLERANCE
    if options.device == "cpu":
        good &= seconds["dense"] / seconds["official"] >= TIME_FLOOR.get(num_samples, 1)
        good &= max(memory["official"], memory["paper"]) <= MEMORY_FLOOR
    gradients = {"gradient_float64": double, "gradient_float32": single}
    return good, {"seconds": seconds, "memory_in_4BN": memory, **gradients}


def main() -> int:
    """Runs the comparison; 0 where every floor holds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[50_000, 200_000, 1_280_000])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--num-negatives", type=int, default=4096)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--json", type=Path, help="write the figures, the device, versions and the commit here")
    parser.add_argument("--memory-of", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_of:
        print(own_peak(options.memory_of, options))
        return 0
    name = torch.cuda.get_device_name() if options.device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    print(f"{name}, torch {torch.__version__}, B={options.batch}, M={options.num_negatives}, D={DIMENSIONS}")
    print(f"TF32 {torch.backends.cuda.matmul.allow_tf32}; median of {options.rounds} interleaved rounds")
    print(f"{'N':>9} {'side':>9} {'ms':>9} {'x':>6} {'mem/4BN':>10} {'x':>6} {'grad f64':>9} {'f32':>9}")
    results = {num_samples: compare(options, num_samples) for num_samples in options.sizes}
    if options.json:
        figures = {str(num_samples): found for num_samples, (_, found) in results.items()}
        sizes = {"batch": options.batch, "num_negatives": options.num_negatives, "dimensions": DIMENSIONS}
        write_results(options.json, {"by_number_of_images": figures, **sizes, "threads": torch.get_num_threads()})
    return 0 if all(good for good, _ in results.values()) else 1


if __name__ == "__main__":
    as_a_job("benchmarks.objective")
    sys.exit(main())
