"""Peak memory of the jobs that read features or a bank, each in a process of its own, at two numbers of training images.

Run: `python -m benchmarks.memory` (`--images 32000 128116 --width 2048 --only knn linear --json FILE`). Features are random; classes,
epochs and costs are few, since they do not add to what an image takes. Beside each peak is what the job says that it needs, there and at
ImageNet's size. A tenth of ImageNet takes some 30 minutes on two busy cores, and 2 GB of the disk.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa

from benchmarks._common import write_results
from invp.data.tables import Rows, blocks, fixed_size_list
from invp.evals._inputs import FeatureInputs, FeatureTable
from invp.plumbing.config import instance, plugin_options
from invp.plumbing.files import sha256_of, write_json, write_table, write_tables
from invp.plumbing.jobs import Job
from invp.plumbing.plugins import load_plugin

IMAGENET = (1_281_167, 50_000, 1000)  # training and test images, classes
DIMENSIONS, TEST, CLASSES = 128, 5000, 2
EVALUATIONS = {
    "knn": {"features": "feature"},
    "knn-embedding": {},
    "linear": {"epochs": 1},
    "svm": {"costs": [0.01], "iterations": 1},
    "embedding-statistics": {"features": "feature"},
}
FIGURES = ("knn-answers", "class-maps", "similarity-by-rank", "similarity-distributions")
GRAPHS = {"graph": {}, "graph-ivf": {"index": "ivf"}}
JOBS = ("libraries", "reading", *EVALUATIONS, *GRAPHS, *FIGURES)
HALF = ("svm",)  # which takes most: at half the number of images


def table(rows: int, width: int, seed: int) -> Iterator[pa.Table]:
    """A features table in batches of 256, as the step writes it."""
    generator = np.random.default_rng(seed)
    for start in range(0, rows, 256):
        index = np.arange(start, min(start + 256, rows))
        feature, embedding = (generator.random((len(index), numbers), np.float32) - 0.4 for numbers in (width, DIMENSIONS))
        embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
        columns = {"index": index, "label": pa.array(index % CLASSES, pa.int32())}
        yield pa.table({**columns, "feature": fixed_size_list(feature), "embedding": fixed_size_list(embedding)})


def prepare(folder: Path, images: int, width: int) -> None:
    """Writes the tables, splits of tiny images, and a checkpoint with a bank."""
    import torch

    for split, rows in (("train", images), ("test", TEST)):
        write_tables(folder / f"{split}.arrow", table(rows, width, len(split)))
        pixels = pa.array([b"0" * 48] * rows, pa.binary(48))
        shard = {"index": np.arange(rows), "image": pixels, "label": pa.array(np.arange(rows) % CLASSES, pa.int32())}
        write_table(folder / split / "shard.arrow", pa.table({**shard, "source": [str(n) for n in range(rows)]}))
        shards = [{"file": "shard.arrow", "rows": rows, "sha256": sha256_of(folder / split / "shard.arrow")}]
        manifest = {"num_samples": rows, "format": "uint8", "shape": [3, 4, 4], "classes": [f"class {n}" for n in range(CLASSES)]}
        write_json(folder / split / "manifest.json", {**manifest, "shards": shards})
    bank = torch.nn.functional.normalize(torch.randn(images, DIMENSIONS), dim=1)
    torch.save({"objective": {"bank": bank}}, folder / "checkpoint.pt")


def plugin_of(name: str) -> tuple[str, dict]:
    """The plug-in of an evaluation and its options."""
    options = EVALUATIONS[name]
    plugin = name.removesuffix("-embedding").replace("-", "_")
    return plugin, plugin_options("evals", {"name": plugin, **options}, "benchmark")


def run(name: str, folder: Path) -> None:
    """Does one job as the workflow would."""
    if name == "libraries":
        import faiss  # noqa: F401
        import torch  # noqa: F401
    elif name == "reading":
        for _, part in blocks(Rows(folder / "train.arrow", "feature")):
            part.sum()
    elif name in GRAPHS:
        options = {"of": "bank", "index": "exact", "k": 10, "probes": 32, "anchors": 1000, **GRAPHS[name]}
        objective = plugin_options("objectives", {"name": "instance_discrimination"}, "benchmark")
        job(
            "graph",
            {"graph": options, "objective": objective, "seed": 0, "stage": 1},
            {"checkpoint": folder / "checkpoint.pt", "dataset": folder / "train/manifest.json"},
            {"knn": folder / "graph/knn.arrow"},
        )
    elif name in FIGURES:
        options = plugin_options("figures", {"name": name.replace("-", "_")}, "benchmark")
        section = {"experiment": "e", "title": "", "figure_name": name, "figure": options, "stages": [1], "seed": 0}
        tables = {f"features_{split}": folder / f"{split}.arrow" for split in ("train", "test")}
        splits = {f"dataset_{split}": folder / split / "manifest.json" for split in ("train", "test")}
        job("figure", section, {**tables, **splits, "stage_features": folder / "train.arrow"}, {"figure": folder / "figure.png"})
    else:
        words = ("experiment", "evaluation_name", "dataset", "pretraining_dataset", "objective", "encoder_name", "head_kind")
        section = {**dict.fromkeys(words, "x"), "given_weights": "", "epochs": 1, "seed": 0, "stage": 1}
        inputs = {split: folder / f"{split}.arrow" for split in ("train", "test")}
        inputs |= {f"{split}_data": folder / split / "manifest.json" for split in ("train", "test")}
        job("evaluate", {**section, "evaluation": plugin_of(name)[1]}, inputs, {"metrics": folder / "metrics.json"})


def job(step: str, section: dict, inputs: dict[str, Path], outputs: dict[str, Path]) -> None:
    arguments = argparse.Namespace(scratch=None)  # none of these trains a network, and saves it
    load_plugin("steps", step).run(
        Job(step, section, {key: [path] for key, path in inputs.items()}, outputs, "benchmark", arguments)
    )


def stated(name: str, images: int, test: int, classes: int, width: int) -> float | None:
    """The GB that a job says it needs beside the libraries; None for those that say nothing."""
    if name in GRAPHS:
        return load_plugin("steps", "graph").memory(images, DIMENSIONS, {"k": 10, "index": "exact", **GRAPHS[name]}) / 1e9
    if name not in EVALUATIONS or not hasattr(load_plugin("evals", plugin_of(name)[0]), "memory"):
        return None
    plugin, options = plugin_of(name)
    module, zero = load_plugin("evals", plugin), np.zeros((), np.float32)
    tables = [
        FeatureTable(
            np.broadcast_to(zero, (rows, width)), np.broadcast_to(zero, (rows, DIMENSIONS)), np.broadcast_to(0, rows), None
        )
        for rows in (images, test)
    ]
    return module.memory(instance(module.Config, options), FeatureInputs(*tables, list(map(str, range(classes))))) / 1e9


def measured(name: str, folder: Path) -> SimpleNamespace:
    """Runs a job in a process of its own: its peak in GB, and its seconds."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", "--job", name, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return SimpleNamespace(gigabytes=float(done.stdout.split()[-1]), seconds=time.perf_counter() - started)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, nargs=2, default=[32_000, 128_116])
    parser.add_argument("--width", type=int, default=2048, help="F")
    parser.add_argument("--only", nargs="*", choices=JOBS, default=JOBS, metavar="JOB")
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.job:
        run(arguments.job[0], Path(arguments.job[1]))
        # Not ru_maxrss, which a process has from the one that started it.
        print(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024 / 1e9)
        return 0
    results: list[dict] = []
    for half in (False, True):
        names = [name for name in arguments.only if (name in HALF) == half]
        for images in (images // (1 + half) for images in arguments.images if names):
            with tempfile.TemporaryDirectory() as folder:
                prepare(Path(folder), images, arguments.width)
                for name in names:
                    found = measured(name, Path(folder))
                    says = {
                        "stated": stated(name, images, TEST, CLASSES, arguments.width),
                        "stated_imagenet": stated(name, *IMAGENET, arguments.width),
                    }
                    row = {"job": name, "images": images, "peak": found.gigabytes, "seconds": found.seconds, **says}
                    results.append({key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()})
                    print(results[-1], flush=True)
    if arguments.json:
        sizes = {"width": arguments.width, "dimensions": DIMENSIONS, "test_images": TEST, "classes": CLASSES, "imagenet": IMAGENET}
        threads = os.environ.get("OMP_NUM_THREADS")
        write_results(arguments.json, {**sizes, "unit": "GB", "jobs": results, "threads": threads})
    return 0


if __name__ == "__main__":
    sys.exit(main())
