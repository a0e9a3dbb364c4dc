"""The golden experiments of golden.yaml, run by the steps in a temporary folder, and the numbers that are kept of each job.

`python -m invp golden` and `adopt` compare them with golden.json.
"""

import argparse
import hashlib
import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from omegaconf import OmegaConf
from PIL import Image

from invp.data.answers import unpacked
from invp.data.masks import mask_of
from invp.data.tables import matrix
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load_study
from invp.plumbing.files import read_json, read_table
from invp.plumbing.golden import FOLDER
from invp.plumbing.jobs import Job
from invp.plumbing.plugins import constants, load_plugin

SHORT = 6  # numbers of a list that are kept one by one; of a longer list its length and two means
FILES = {
    "prepare": {"manifest": "manifest.json"},
    "pretrain": {"checkpoint": "checkpoint.pt", "metrics": "metrics.jsonl"},
    "features": {"features": "features.arrow"},
    "graph": {"knn": "knn.arrow", "positives": "positives.arrow", "summary": "summary.json"},
    "evaluate": {"metrics": "metrics.json"},
    "figure": {"figure": "figure.png", "data": "figure.json"},
}


def on_the_cpu() -> None:
    """Leaves this process the CPU alone, on which golden numbers are, and the disk where it is; to be called before torch is imported."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.environ.pop("INVP_NODE_SCRATCH", None)


class Golden:
    """The golden study in a folder. `cases` has its jobs by name; a job, and those that it needs, run when their numbers are asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        experiments = folder / "experiments"
        experiments.mkdir(parents=True)
        described = OmegaConf.to_container(OmegaConf.load(FOLDER / "golden.yaml"), resolve=True)
        for name, options in described.items():
            (experiments / f"{name}.yaml").write_text(json.dumps(options))
        names = [name for name in described if not name.startswith("_")]
        self.study = load_study({"study": "golden", "experiments": names}, "golden.yaml", experiments)

    @cached_property
    def cases(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """Name of a golden number -> its step, and the wildcards of the job that gives it."""
        found: dict[str, tuple[str, dict[str, Any]]] = {}
        for dataset, options in self.study["datasets"].items():
            for split in ("train", "test") if dataset == options["name"] else ():
                found[f"prepare/any/{dataset}-{split}"] = "prepare", {"dataset": dataset, "split": split}
        for name, options in self.study["loaded"].items():
            shared = name.startswith("any-")
            run = {"experiment": name, "seed": 0}
            stage = run | {"stage": options["stages"][-1]}
            if shared or stage["stage"]:
                found[f"pretrain/{'any' if shared else options['objective']['name']}/{name}"] = "pretrain", stage
            if shared:
                split = {"dataset": options["dataset_id"], "split": "test"}
                found[f"features/any/{name}"] = "features", stage | split
            if options["graph"]["snapshot"]:
                found[f"graph/{'any' if shared else options['objective']['name']}/{name}"] = "graph", stage
            for key, own in options["evaluations"].items():
                found[f"evaluate/{'any' if shared else own['name']}/{name}.{key}"] = "evaluate", stage | {"eval": key}
            for key, own in options["figures"].items():
                found[f"figure/{own['name']}/{name}.{key}"] = "figure", run | {"figure": key}
        return found

    def section(self, step: str, wildcards: dict[str, Any]) -> dict:
        """What the step sees of the job with these wildcards."""
        return load_plugin("steps", step).section(self.study, **wildcards)

    def numbers(self, case: str) -> dict[str, Any]:
        """The golden numbers of a case as the present code gives them; UserError names the case if a step refuses to run it."""
        step, wildcards = self.cases[case]
        try:
            made = self._made(step, **wildcards)
            parent = self._inputs(step, **wildcards)["parent"] if step == "pretrain" else []
        except UserError as error:
            raise UserError(f"golden case {case} cannot be run: {error}") from None
        return condensed(_pretrained(made, parent) if step == "pretrain" else NUMBERS[step](made))

    def _made(self, step: str, **wildcards: Any) -> Path:
        """The folder with a job's outputs; the job has run once, after those that make its inputs."""
        folder = self.folder / "-".join(map(str, (step, *wildcards.values())))
        if folder.exists():
            return folder
        inputs = {name: paths for name, paths in self._inputs(step, **wildcards).items() if paths}
        module, parser = load_plugin("steps", step), argparse.ArgumentParser()
        if hasattr(module, "add_arguments"):
            module.add_arguments(parser)
        words = ["--scratch", str(folder / "scratch")] if step == "pretrain" else []
        outputs = {name: folder / file for name, file in FILES[step].items()}
        job = Job(step, self.section(step, wildcards), inputs, outputs, "golden", parser.parse_args(words))
        folder.mkdir()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
        try:
            with redirect_stderr(io.StringIO()):  # progress
                status = module.run(job)
        finally:  # pre-training sets its own
            for number, handler in handlers.items():
                signal.signal(number, handler)
        assert not status, f"golden {step} of {wildcards} ended with {status}"
        return folder

    def _inputs(self, step: str, **w: Any) -> dict[str, list[Path]]:
        """The inputs of a job, made before it, under the names that the workflow gives them."""
        if step == "prepare":
            return {}
        experiment = self.study["loaded"][w["experiment"]]
        run, own, stages = {"experiment": w["experiment"], "seed": 0}, experiment["dataset_id"], experiment["stages"]

        def manifest(dataset: str, split: str) -> list[Path]:
            return [self._made("prepare", dataset=dataset, split=split) / "manifest.json"]

        def at(other: str, file: str, numbers: list[int], **more: Any) -> list[Path]:
            return [self._made(other, **run, stage=number, **more) / file for number in numbers]

        def features(numbers: list[int], dataset: str, split: str) -> list[Path]:
            return at("features", "features.arrow", numbers, dataset=dataset, split=split)

        if step == "figure":
            needs = load_plugin("figures", experiment["figures"][w["figure"]]["name"]).NEEDS
            splits = ("train", "test") if {"features", "objective", "encoder"} & set(needs) else ("train",)
            evaluations = experiment["evaluations"] if "metrics" in needs else ()
            return {
                "checkpoint": at("pretrain", "checkpoint.pt", stages[-1:]) if {"objective", "encoder"} & set(needs) else [],
                "curves": at("pretrain", "metrics.jsonl", stages) if "curves" in needs else [],
                "graph": at("graph", "knn.arrow", stages) if "graph" in needs else [],
                "metrics": [at("evaluate", "metrics.json", stages[-1:], eval=key)[0] for key in evaluations],
                "stage_features": features(stages, own, "train") if "stage_features" in needs else [],
                **{f"features_{split}": features(stages[-1:], own, split) for split in splits if "features" in needs},
                **{f"dataset_{split}": manifest(own, split) for split in splits},
            }
        stage = w["stage"]
        before = [number for number in stages if number < stage][-1:]
        if step == "pretrain":
            return {"dataset": manifest(own, "train"), "parent": at("pretrain", "checkpoint.pt", before)}
        checkpoint = {"checkpoint": at("pretrain", "checkpoint.pt", [stage])}
        if step == "features":
            return checkpoint | {"dataset": manifest(w["dataset"], w["split"])}
        if step == "graph":
            of_features = experiment["graph"]["of"] == "features" or stage == 0
            return checkpoint | {
                "dataset": manifest(own, "train"),
                "previous": at("graph", "knn.arrow", before),
                "features": features([stage], own, "train") if of_features else [],
            }
        assert step == "evaluate", step
        dataset = experiment["evaluation_datasets"][w["eval"]]
        stated = constants("evals", experiment["evaluations"][w["eval"]]["name"])
        splits = stated.get("SPLITS", ("train", "test"))
        read = checkpoint if stated["NEEDS"] == "encoder" else {split: features([stage], dataset, split) for split in splits}
        if stated["NEEDS"] == "graph":
            read["graph"] = at("graph", "knn.arrow", [stage])
        return read | {f"{split}_data": manifest(dataset, split) for split in splits}


def _prepared(folder: Path) -> dict:
    """What the manifest says of the split, its columns, and a digest of its pixels: other libraries may encode them otherwise."""
    manifest = read_json(folder / "manifest.json")
    table = pa.concat_tables([read_table(folder / shard["file"]) for shard in manifest["shards"]])
    images = table["image"].to_pylist()
    if manifest["format"] == "encoded":
        images = [np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).tobytes() for content in images]
    keys = ("num_samples", "format", "shape", "classes", "multi_label", "targets", "counts", "split_rule")
    masks = [mask_of(content).tobytes() for content in table["mask"].to_pylist()] if "mask" in table.column_names else []
    return {
        "manifest": {key: manifest[key] for key in keys},
        **({"masks": hashlib.sha256(b"".join(masks)).hexdigest()} if masks else {}),
        "pixels": hashlib.sha256(b"".join(images)).hexdigest(),
        **{name: table[name].to_pylist() for name in table.column_names if name not in ("image", "mask", "source")},
    }


def _pretrained(folder: Path, parent: list[Path]) -> dict:
    """The curves; the length of each part of the state; and, under `gradient`, of its change since the parent, and of the momentum."""
    import torch

    from invp.training.checkpoint import load_checkpoint

    state = load_checkpoint(folder / "checkpoint.pt")
    before = load_checkpoint(parent[0])["objective"] if parent else {}
    lengths: dict[str, float] = {}
    steps = {"moments": 0.0}
    for key, value in state["objective"].items():
        part = key.partition(".")[0]
        lengths[part] = lengths.get(part, 0.0) + _square(value)
        if key in before:
            steps[part] = steps.get(part, 0.0) + _square(value.double() - before[key].double())
    for each in state["optimizer"]["state"].values():
        steps["moments"] += sum(_square(value) for value in each.values() if isinstance(value, torch.Tensor))
    curves = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {
        "curves": [{k: v for k, v in row.items() if k not in ("seconds", "memory_mb", "images_per_second")} for row in curves],
        "length": {name: value**0.5 for name, value in lengths.items()},
        "gradient": {name: value**0.5 for name, value in steps.items()},
    }


def _square(tensor: Any) -> float:
    return float(tensor.double().nan_to_num().square().sum())


def _embedded(folder: Path) -> dict:
    table = read_table(folder / "features.arrow")
    return {name: matrix(table, name).tolist() for name in ("feature", "embedding")}


def _connected(folder: Path) -> dict:
    knn, positives = read_table(folder / "knn.arrow"), read_table(folder / "positives.arrow")
    summary = read_json(folder / "summary.json")
    return {
        **{key: summary.get(key) for key in ("of", "num_nodes", "k", "index", "measures", "class_confusion")},
        **{name: matrix(knn, name).tolist() for name in ("neighbours", "similarities", "position")},
        **{name: positives[name].to_pylist() for name in positives.column_names},
    }


def _evaluated(folder: Path) -> dict:
    """What metrics.json holds, but for pictures, which other libraries may encode otherwise."""
    content = read_json(folder / "metrics.json")
    images = content["protocol"].get("test_images")
    right = {name: unpacked(text, images).astype(int).tolist() for name, text in content["answers"].items()}
    return {
        "metrics": content["metrics"],
        "chosen": content["protocol"].get("chosen"),
        "details": {name: value for name, value in content["details"].items() if name != "pictures"},
        "answers": right,
    }


def _drawn(folder: Path) -> dict:
    """The data behind a figure, but for the places of t-SNE, which any rounding changes altogether."""
    data = read_json(folder / "figure.json")["data"]
    return {name: value for name, value in data.items() if name != "places"}


NUMBERS: dict[str, Callable[[Path], dict]] = {
    "prepare": _prepared,
    "features": _embedded,
    "graph": _connected,
    "evaluate": _evaluated,
    "figure": _drawn,
}


def condensed(value: Any, path: str = "") -> dict[str, Any]:
    """Nested data as path -> number, text or list; of a long list of numbers its length, its mean, the mean without signs, and the mean
    weighted by place."""
    if isinstance(value, dict):
        return {key: v for name, inner in value.items() for key, v in condensed(inner, f"{path}.{name}".lstrip(".")).items()}
    if not isinstance(value, list):
        return {path: _short(value)}
    if value and all(isinstance(each, dict) for each in value):
        names = dict.fromkeys(name for each in value for name in each)
        return condensed({name: [each.get(name) for each in value] for name in names}, path)
    flat = list(_flat(value))
    if all(isinstance(each, str) for each in flat):
        return {path: " ".join(flat)}
    if len(flat) <= SHORT or any(isinstance(each, str) for each in flat):
        return {path: [_short(each) for each in flat]}
    array = np.array([0.0 if each is None else float(each) for each in flat])
    means = (array.mean(), np.abs(array).mean(), (array * np.linspace(-1, 1, len(array))).mean())
    return {path: [len(array), *map(_short, map(float, means))]}


def _flat(value: list) -> Iterator[Any]:
    for each in value:
        if isinstance(each, dict):
            yield from _flat(list(each.values()))
        elif isinstance(each, list):
            yield from _flat(each)
        else:
            yield each


def _short(value: Any) -> Any:
    return float(f"{value:.7g}") if isinstance(value, float) else value
