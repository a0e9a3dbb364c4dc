"""A small study with names that mean something to HTML, Markdown, LaTeX or CSV."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from invp.data.tables import fixed_size_list
from invp.plumbing.files import write_table
from invp.plumbing.jobs import Job
from invp.plumbing.not_made import NotMade

HOSTILE = """"It's" <!--<script>alert(1)</script> & &amp; # $\\frac$ | _a_ 100 % {{ 7 * 7 }} {% if %} ~ ^ * `b` [c](d) \\\\, 🦊
a second line"""


@dataclass
class Study:
    """The section, the inputs by name, and the folder of the results of a study."""

    section: dict
    inputs: dict[str, list[Path]]
    results: Path
    not_made: list[NotMade] = field(default_factory=list)

    def job(self, step: str, *outputs: str) -> Job:
        outputs = {name: self.results / name for name in outputs}
        return Job(step, self.section, self.inputs, outputs, "code", not_made=self.not_made)


def graph_files(results: Path, run: str, stages: tuple[int, ...], classes: list[str]) -> dict[str, list[Path]]:
    """A prepared set of twelve grey images of classes in turn, and of each stage a graph whose edges join images of one class; as the
    inputs `maps`, `walks` and `images` of the report."""
    images = np.arange(12, dtype=np.int64)
    labels = images % len(classes)
    shards = pa.table(
        {"image": pa.array([bytes([int(i)] * 4) for i in images], pa.binary(4)), "label": pa.array(labels, pa.int32())}
    )
    dataset = results / "datasets/set/train"
    write_table(dataset / "part-0.arrow", shards, {})
    manifest = {"classes": classes, "shape": [1, 2, 2], "format": "uint8", "shards": [{"file": "part-0.arrow"}], "num_samples": 12}
    (dataset / "manifest.json").write_text(json.dumps(manifest))
    found: dict[str, list[Path]] = {"images": [dataset / "manifest.json"], "maps": []}
    places = fixed_size_list(np.stack([np.cos(images), labels], 1).astype(np.float32))
    write_table(results / run / "map.arrow", pa.table({"index": images, **{f"stage-{stage}": places for stage in stages}}), {})
    steps = np.array([1, 2, 3]) * len(classes)
    for stage in stages:
        folder = results / run / f"graph/stage-{stage}"
        knn = {"index": images, "neighbours": fixed_size_list((images[:, None] + steps) % 12),
               "similarities": fixed_size_list(np.tile(np.float32([0.9, 0.8, 0.7]), (12, 1)))}  # fmt: skip
        write_table(folder / "knn.arrow", pa.table(knn), {})
        # Each image has three positives: the next of its class, which the loss leaves, and two it takes; of image 1 the last is of another.
        anchors, positives = np.repeat(images, 3), ((images[:, None] + steps) % 12).ravel()
        positives[5] = (positives[5] + 1) % 12
        pairs = {"anchor": anchors, "positive": positives, "distance": pa.array(np.tile([1, 2, 2], 12), pa.int8()),
                 "similarity": np.tile(np.float32([0.9, 0.4, 0.3]), 12), "chosen": np.tile([False, True, True], 12)}  # fmt: skip
        write_table(folder / "positives.arrow", pa.table(pairs), {})
        found["maps"].append(results / run / "map.arrow")
        found["walks"] = [folder / "knn.arrow", folder / "positives.arrow"]
    return found


def hostile_study(results: Path) -> Study:
    """Two experiments, two seeds, one stage of two epochs; an evaluation with everything that pages show."""
    inputs: dict[str, list[Path]] = {}

    def put(name: str, path: str, content: str) -> Path:
        file = results / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content, encoding="utf-8")
        inputs.setdefault(name, []).append(file)
        return file

    for number, experiment in enumerate(("a", "b")):
        for seed in (0, 1):
            run, score = f"{experiment}/seed-{seed}", 90 + number + seed / 10
            details = {
                "classes": [HOSTILE, "b"],
                "confusion": [[3, 1], [0, 4]],
                "accuracy_by_class": [75.0, 100.0],
                "readouts": {HOSTILE: {f"stem {HOSTILE}": [0.1, 0.2 + number], "layer1": [0.3, 0.5 + score]}},
            }
            metrics = {
                "experiment": experiment, "seed": seed, "stage": 2, "eval": "linear", "evaluation": {"name": "linear"},
                "metrics": {"top1": score}, "units": {"top1": {"unit": "%", "better": "higher"}}, "details": details, "protocol": {"data": "digits", "folder": HOSTILE, "test_images": 8},
                "answers": {},
            }  # fmt: skip
            put("metrics", f"{run}/evals/linear/stage-2/metrics.json", json.dumps(metrics))
            put("graphs", f"{run}/graph/stage-2/summary.json", json.dumps({"measures": {"mutual_share": score / 100}}))
            lines = [{"epoch": epoch, "loss": 1 / epoch, "views": 10 * epoch, "seconds": 1.5} for epoch in (1, 2)]
            put("curves", f"{run}/pretrain/stage-2/metrics.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines))
            record = {
                "section": {"seed": seed, "stage": 2}, "commit": None, "clean": False, "seconds": 3.0, "peak_memory_mb": 1.0,
                "device": HOSTILE, "threads": 1, "code": "0123",
            }  # fmt: skip
            put("checkpoints", f"{run}/pretrain/stage-2/record.json", json.dumps(record))
            figure = put("figures", f"{run}/figures/training-curves.png", "")
            Image.new("RGB", (2, 2)).save(figure)
    column = {"evaluations": ["linear"], "metric": "top1"}
    paper = {
        key: {"title": HOSTILE, "columns": ["method", "top1"], "rows": [[HOSTILE, 70.0]], "compare": [], "measured": {"top1": {**column, "data": data}}}
        for key, data in (("shown", "digits"), ("left out", HOSTILE))
    }  # fmt: skip
    put("published", "published.yaml", json.dumps(paper, ensure_ascii=False))
    options = {
        "objective": "invp", "objective_options": {"name": "invp"}, "encoder": "resnet50", "head": "mlp", "dataset": "digits",
        "epochs": 2, "stages": [2], "title": HOSTILE,
    }  # fmt: skip
    section = {
        "study": "hostile", "title": HOSTILE, "description": HOSTILE, "descriptions": {"a": HOSTILE, "b": ""}, "reference": "",
        "corrupted": [{"evaluation": "linear", "of": HOSTILE, "experiments": {"a": {"clean": "", "kinds": {"fog": [[1, "linear"]]}}}}],
        "columns": ["linear.top1", "training.seconds"], "experiments": ["a", "b"], "seeds": [0, 1],
        "loaded": {name: options for name in ("a", "b")}, "figures": {"a": {"training-curves": "training-curves"}},
        "pictured": [["a", 2]],
    }  # fmt: skip
    inputs |= graph_files(results, "a/seed-0", (2,), [HOSTILE, "b"])
    return Study(section, inputs, results)
