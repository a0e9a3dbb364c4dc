"""CIFAR-10 on one GPU: experiments trained in one stage, then kNN, linear and the bank's graph, with the seconds of each epoch.

Run: `INVP_DATA=... python -m benchmarks.cifar10 cifar10-invp --json benchmarks/results` (more experiments, `--epochs 200 --seed 0 --minutes 60
--work FOLDER --workers 8`). It calls the package's own steps by their command line, one after another or side by side, where Snakemake is
not installed; the study `cifar10` does the same in stages. A training that does not end within `--minutes` is left out.
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks._common import write_results
from invp.plumbing.experiments import load
from invp.plumbing.files import canonical_json, read_json
from invp.plumbing.folders import EXPERIMENTS
from invp.plumbing.provenance import code_digest, step_modules

SPLITS = ("train", "test")
KEPT = ("epoch", "loss", "loss_instance", "loss_invariance", "num_positives", "feature_std", "feature_agreement", "seconds")


class Runner:
    """Jobs of one experiment in a folder."""

    def __init__(self, study: dict, name: str, seed: int, stage: int, data: Path, out: Path, workers: int) -> None:
        self.study, self.data, self.out, self.workers = study, data, out, workers
        self.wildcards = {"experiment": name, "seed": seed, "stage": stage}

    def section(self, step: str, **wildcards) -> dict:
        return importlib.import_module(f"invp.steps.{step}").section(self.study, **self.wildcards, **wildcards)

    def start(
        self, step: str, section: dict, inputs: dict[str, Path], outputs: dict[str, Path], *extra: object
    ) -> subprocess.Popen:
        """A job of a step, which prints where this program does."""
        for path in outputs.values():
            path.parent.mkdir(parents=True, exist_ok=True)
        pairs = [[f"{name}={path}" for name, path in files.items()] for files in (inputs, outputs)]
        command = [sys.executable, "-m", "invp", step, "--section", canonical_json(section)]
        command += ["--code", code_digest(step_modules(step, section)), *(["--input", *pairs[0]] if inputs else [])]
        return subprocess.Popen([*command, "--output", *pairs[1], *map(str, extra)])

    def train(self, minutes: float) -> Path | None:
        """The checkpoint, or None where the time was too short."""
        folder = self.out / "pretrain"
        outputs = {name: folder / file for name, file in (("checkpoint", "checkpoint.pt"), ("metrics", "metrics.jsonl"))}
        extra = ("--scratch", self.out / "scratch", "--workers", self.workers, "--max-minutes", minutes)
        inputs = {"dataset": self.data / "train" / "manifest.json"}
        job = self.start("pretrain", self.section("pretrain"), inputs, {**outputs, "record": folder / "record.json"}, *extra)
        return outputs["checkpoint"] if job.wait() == 0 else None

    def evaluate(self, checkpoint: Path) -> dict[str, dict]:
        """The metrics of kNN and linear, and the measures of the graph."""
        manifests = {split: self.data / split / "manifest.json" for split in SPLITS}
        tables = {split: self.out / "features" / f"{split}.arrow" for split in SPLITS}
        jobs = []
        for split, table in tables.items():
            section = self.section("features", dataset="cifar10", split=split)
            inputs = {"checkpoint": checkpoint, "dataset": manifests[split]}
            outputs = {"features": table, "record": table.with_suffix(".record.json")}
            jobs.append(self.start("features", section, inputs, outputs, "--workers", self.workers))
        graph = {name: self.out / "graph" / file for name, file in (("knn", "knn.arrow"), ("positives", "positives.arrow"))}
        graph |= {name: self.out / "graph" / f"{name}.json" for name in ("summary", "record")}
        inputs = {"checkpoint": checkpoint, "dataset": manifests["train"]}
        finish([*jobs, self.start("graph", self.section("graph"), inputs, graph)])
        inputs = {**tables, **{f"{split}_data": manifest for split, manifest in manifests.items()}}
        jobs, found = [], {}
        for name in ("knn", "linear"):
            outputs = {key: self.out / name / f"{key}.json" for key in ("metrics", "record")}
            extra = ("--scratch", self.out / name / "scratch", "--workers", self.workers)
            jobs.append(self.start("evaluate", self.section("evaluate", eval=name), inputs, outputs, *extra))
        finish(jobs)
        for name in ("knn", "linear"):
            found[name] = read_json(self.out / name / "metrics.json")["metrics"]
        return found | {"graph": read_json(graph["summary"])["measures"]}


def finish(jobs: list[subprocess.Popen]) -> None:
    """Waits for jobs; CalledProcessError if one failed, after all have ended."""
    for code, job in [(job.wait(), job) for job in jobs]:
        if code:
            raise subprocess.CalledProcessError(code, job.args)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="+", help="names of config/experiments, such as cifar10-invp")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=0, help="for each training (0: as long as it takes)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, help="folder for shards, checkpoints and features (default: one that is removed)")
    parser.add_argument("--json", type=Path, help="folder for a JSON file an experiment")
    arguments = parser.parse_args()
    loaded = {name: load(EXPERIMENTS / f"{name}.yaml") for name in arguments.experiments}
    for options in loaded.values():
        options["training"]["epochs"], options["stages"] = arguments.epochs, [arguments.epochs]
    with tempfile.TemporaryDirectory() as scratch:
        work = arguments.work or Path(scratch)
        for name, options in loaded.items():
            runner = Runner(
                {"loaded": loaded}, name, arguments.seed, arguments.epochs, work / "cifar10", work / name, arguments.workers
            )
            dataset = {key: value for key, value in options["dataset"].items() if key != "id"}
            missing = [split for split in SPLITS if not (runner.data / split / "manifest.json").exists()]
            outputs = {split: {key: runner.data / split / f"{key}.json" for key in ("manifest", "record")} for split in missing}
            extra = ("--workers", arguments.workers)
            finish([runner.start("prepare", {"dataset": dataset, "split": split}, {}, outputs[split], *extra) for split in missing])
            checkpoint = runner.train(arguments.minutes)
            if checkpoint is None:
                print(f"{name} did not end within {arguments.minutes:g} minutes", file=sys.stderr)
                continue
            rows = [json.loads(line) for line in checkpoint.with_name("metrics.jsonl").read_text().splitlines()]
            seconds = [row["seconds"] for row in rows]
            found = {"experiment": name, "seeds": [arguments.seed], "epochs": arguments.epochs, **runner.evaluate(checkpoint)}
            found |= {"median_seconds_of_an_epoch": median(seconds), "seconds": sum(seconds), "memory_mb": rows[-1]["memory_mb"]}
            found["curve"] = [{key: row[key] for key in KEPT if key in row} for row in rows[:: max(1, len(rows) // 20)]]
            print(
                json.dumps({key: found[key] for key in ("experiment", "knn", "linear", "median_seconds_of_an_epoch")}), flush=True
            )
            if arguments.json:
                write_results(arguments.json / f"{name}-gpu.json", found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
