"""Time and memory of all measures of a kNN graph of ImageNet's size.

Run: `python -m benchmarks.graph_measures` (`--nodes 1280000 --k 10 --json FILE`). The graph is synthetic: nodes lie in a thousand classes, and nine
of ten edges stay in the class; the stage before shares about half of them. The exit status is 1 where 3 minutes or 8 GB are not enough.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks._common import write_results
from invp.core.graph_measures import class_confusion, measures

MINUTES, GIGABYTES = 3.0, 8.0


def clustered(nodes: int, k: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours nodes x k (no repeats, not the node itself) and labels."""
    generator = np.random.default_rng(seed)
    labels = np.arange(nodes) % classes
    steps = 1 + np.argsort(generator.random((nodes, 4 * k), np.float32), 1)[:, :k]  # distinct
    steps *= generator.choice([-1, 1], (nodes, k))  # so that some edges have their reverse
    inside = (np.arange(nodes)[:, None] + steps * classes) % nodes
    outside = (np.arange(nodes)[:, None] + steps * classes + 1) % nodes
    return np.where(generator.random((nodes, k)) < 0.9, inside, outside), labels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nodes", type=int, default=1_280_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    graph, labels = clustered(arguments.nodes, arguments.k, 1000, 0)
    shuffled = np.random.default_rng(1).permuted(graph[:, : arguments.k // 2], axis=1)
    previous = np.concatenate([shuffled, (graph[:, arguments.k // 2 :] + 2000) % arguments.nodes], 1)
    started = time.perf_counter()
    found = measures(graph, labels, previous)
    class_confusion(graph, labels, 1000)
    seconds = time.perf_counter() - started
    gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    for name, value in found.items():
        print(f"  {name:24} {value:.6g}")
    print(
        f"{arguments.nodes:,} nodes, k = {arguments.k}: {seconds:.1f} s, {gigabytes:.2f} GB at most in the whole process, the graphs and their making included"
    )
    if arguments.json:
        content = {"nodes": arguments.nodes, "k": arguments.k, "seconds": seconds, "gigabytes": gigabytes}
        write_results(arguments.json, content)
    return int(seconds > 60 * MINUTES or gigabytes > GIGABYTES)


if __name__ == "__main__":
    sys.exit(main())
