"""CIFAR-10 on one GPU: experiments trained in one stage, then their evaluations and the bank's graph, with the seconds of each epoch.

Run: `INVP_DATA=... python -m benchmarks.cifar10 cifar10-invp --json benchmarks/results/cifar10.json` (more experiments, `--seeds 0 1 2`,
`--epochs 200`, `--minutes 60`, `--work FOLDER`, `--workers 8`). It calls the package's own steps by their command line, one after another
or side by side, where Snakemake is not installed; the study `cifar10` does the same in stages. A training that does not end within
`--minutes` is left out. What is in `--work` already is not made again.

To choose options without test images: `--held-out 0.1 --set training.learning_rate=0.12 objective.ramp_epoch=18`, which tests on a tenth
of the training images.
"""

import argparse
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from omegaconf import OmegaConf

from benchmarks._common import write_results
from invp.plumbing.experiments import load
from invp.plumbing.files import atomic_path, canonical_json, read_json
from invp.plumbing.folders import EXPERIMENTS
from invp.plumbing.plugins import load_plugin
from invp.plumbing.provenance import code_digest, step_modules

SPLITS = ("train", "test")
KEPT = ("epoch", "loss", "loss_instance", "loss_invariance", "num_positives", "feature_std", "feature_agreement", "seconds")


class Runner:
    """Jobs of one experiment in a folder."""

    def __init__(self, study: dict, name: str, seed: int, stage: int, data: Path, out: Path, workers: int) -> None:
        self.study, self.data, self.out, self.workers = study, data, out, workers
        self.options = study["loaded"][name]
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
        """The metrics of each evaluation that looks at features alone, and the measures of the graph."""
        manifests = {split: self.data / split / "manifest.json" for split in SPLITS}
        tables = {split: self.out / "features" / f"{split}.arrow" for split in SPLITS}
        jobs = []
        for split, table in tables.items():
            section = self.section("features", dataset=self.options["dataset_id"], split=split)
            inputs = {"checkpoint": checkpoint, "dataset": manifests[split]}
            outputs = {"features": table, "record": table.with_suffix(".record.json")}
            jobs.append(self.start("features", section, inputs, outputs, "--workers", self.workers))
        graph = {name: self.out / "graph" / file for name, file in (("knn", "knn.arrow"), ("positives", "positives.arrow"))}
        graph |= {name: self.out / "graph" / f"{name}.json" for name in ("summary", "record")}
        section, inputs = self.section("graph"), {"checkpoint": checkpoint, "dataset": manifests["train"]}
        if section["graph"]["of"] == "features":
            finish(jobs)
            jobs, inputs = [], {**inputs, "features": tables["train"]}
        finish([*jobs, self.start("graph", section, inputs, graph)])
        inputs = {**tables, **{f"{split}_data": manifest for split, manifest in manifests.items()}}
        names = [name for name, options in self.options["evaluations"].items() if plugin_of(options).NEEDS == "features"]
        jobs = []
        for name in names:
            outputs = {key: self.out / name / f"{key}.json" for key in ("metrics", "record")}
            extra = ("--scratch", self.out / name / "scratch", "--workers", self.workers)
            jobs.append(self.start("evaluate", self.section("evaluate", eval=name), inputs, outputs, *extra))
        finish(jobs)
        found = {name: read_json(self.out / name / "metrics.json")["metrics"] for name in names}
        return found | {"graph": read_json(graph["summary"])["measures"]}


def finish(jobs: list[subprocess.Popen]) -> None:
    """Waits for jobs; CalledProcessError if one failed, after all have ended."""
    for code, job in [(job.wait(), job) for job in jobs]:
        if code:
            raise subprocess.CalledProcessError(code, job.args)


def plugin_of(evaluation: dict):
    """The module of an evaluation."""
    return load_plugin("evals", evaluation["name"])


def changed(name: str, arguments: argparse.Namespace, folder: Path) -> dict:
    """The experiment with the command line's options, in one stage; on a part of the training images if so many are held out."""
    options: dict = {"extends": name}
    if arguments.set:
        options |= OmegaConf.to_container(OmegaConf.from_dotlist(arguments.set))
    epochs = arguments.epochs or load(EXPERIMENTS / f"{name}.yaml")["training"]["epochs"]
    options["stages"], options["training"] = [epochs], {**options.get("training", {}), "epochs": epochs}
    if arguments.held_out:
        of = {"name": "cifar10"}
        options["dataset"] = {"name": "held_out", "id": "cifar10-held-out", "of": of, "share": arguments.held_out}
    path = folder / f"{name}-changed.yaml"
    OmegaConf.save(OmegaConf.create(options), path)
    return load(path)


def run(name: str, seed: int, options: dict, work: Path, arguments: argparse.Namespace) -> dict | None:
    """One training and what it gave, or None where the time was too short."""
    epochs, identity = options["stages"][0], options["dataset_id"]
    changes = hashlib.sha256(" ".join(arguments.set).encode()).hexdigest()[:12]  # a file system takes no name of all of them
    label = "-".join([name, f"seed-{seed}", *([changes] if arguments.set else [])])
    runner = Runner({"loaded": {name: options}}, name, seed, epochs, work / identity, work / label, arguments.workers)
    missing = [split for split in SPLITS if not (runner.data / split / "manifest.json").exists()]
    outputs = {split: {key: runner.data / split / f"{key}.json" for key in ("manifest", "record")} for split in missing}
    extra = ("--workers", arguments.workers)
    finish(
        [runner.start("prepare", {"dataset": options["dataset"], "split": split}, {}, outputs[split], *extra) for split in missing]
    )
    checkpoint = runner.train(arguments.minutes)
    if checkpoint is None:
        print(f"{name}, seed {seed}, did not end within {arguments.minutes:g} minutes", file=sys.stderr)
        return None
    rows = [json.loads(line) for line in checkpoint.with_name("metrics.jsonl").read_text().splitlines()]
    seconds = [row["seconds"] for row in rows]
    found = {"experiment": name, "set": arguments.set, "held_out": arguments.held_out, "seed": seed, "epochs": epochs}
    found |= {**runner.evaluate(checkpoint), "median_seconds_of_an_epoch": median(seconds), "seconds": sum(seconds)}
    found["memory_mb"] = rows[-1]["memory_mb"]
    return found | {"curve": [{key: row[key] for key in KEPT if key in row} for row in rows[:: max(1, len(rows) // 20)]]}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", nargs="+", help="names of config/experiments, such as cifar10-invp")
    parser.add_argument("--epochs", type=int, default=0, help="in place of the experiment's own")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="KEY=VALUE", help="other options, such as training.learning_rate=0.1"
    )
    parser.add_argument("--held-out", type=float, default=0, help="the share of the training images that is tested on instead")
    parser.add_argument("--minutes", type=float, default=0, help="for each training (0: as long as it takes)")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--work", type=Path, help="folder for shards, checkpoints and features (default: one that is removed)")
    parser.add_argument("--json", type=Path, help="file of the results, written anew after each training")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder, runs = Path(scratch), []
        loaded = {name: changed(name, arguments, folder) for name in arguments.experiments}
        for name, options in loaded.items():
            for seed in arguments.seeds:
                found = run(name, seed, options, arguments.work or folder, arguments)
                if found is None:
                    continue
                runs.append(found)
                shown = {key: found[key] for key in ("experiment", "set", "seed", "median_seconds_of_an_epoch")}
                print(
                    json.dumps({**shown, "knn": found["knn"]["top1"], "share": found["graph"].get("same_class_share")}), flush=True
                )
                if arguments.json:
                    with atomic_path(arguments.json) as temporary:
                        write_results(temporary, {"runs": runs})
    return 0


if __name__ == "__main__":
    sys.exit(main())
