"""What the benchmarks share: sides that take turns, and results as JSON with device, versions and commit."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invp.plumbing.provenance import versions
from invp.plumbing.records import device_name

# As the workflow's jobs have it: memory that was freed is kept, instead of being given back and asked for again in each step.
KEPT = {"MALLOC_MMAP_THRESHOLD_": "33554432", "MALLOC_TRIM_THRESHOLD_": "1073741824"}


def as_a_job(benchmark: str) -> None:
    """Starts the benchmark, by its module's name, again in this process if its memory is not yet kept as a job's is."""
    if not KEPT.keys() <= os.environ.keys():
        os.execve(sys.executable, [sys.executable, "-m", benchmark, *sys.argv[1:]], {**os.environ, **KEPT})


def median_seconds(sides: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The median seconds of each side over rounds in which the sides take turns, after one to warm up."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, run in sides.items():
            started = time.perf_counter()
            run()
            if number:
                found[name].append(time.perf_counter() - started)
    return {name: statistics.median(seconds) for name, seconds in found.items()}


def images_per_second(sides: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """The median images a second of each side, which returns how many it gave, as many in each round."""
    counts: dict[str, int] = {}

    def counted(name: str) -> Callable[[], None]:
        return lambda: counts.update({name: sides[name]()})

    seconds = median_seconds({name: counted(name) for name in sides}, rounds)
    return {name: counts[name] / seconds[name] for name in sides}


def write_results(path: Path, content: dict) -> None:
    """Writes the content with what it was measured on."""
    about = {"device": device_name(), "cores": os.cpu_count(), "load": os.getloadavg()[0]}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    path.write_text(json.dumps({**content, **about, "versions": versions(), "commit": commit}, indent=1) + "\n")
