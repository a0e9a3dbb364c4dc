"""One figure of one run: reads what the plug-in needs, draws it, and keeps the data behind it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from invp.config import instance
from invp.files import atomic_path, read_json, write_json
from invp.plugins import load_plugin


@dataclass
class FigureInputs:
    """What a figure may look at; only what its NEEDS names is filled."""

    experiment: dict
    curves: list[dict] = field(default_factory=list)  # a row an epoch
    graphs: dict[int, Path] = field(default_factory=dict)  # stage -> folder of knn.arrow
    features: dict[str, Path] = field(default_factory=dict)  # split -> table
    stage_features: dict[int, Path] = field(default_factory=dict)  # stage -> table of the training split
    metrics: list[dict] = field(default_factory=list)
    dataset: dict[str, Path] = field(default_factory=dict)  # split -> folder of manifest.json


def read_curves(paths: list[Path]) -> list[dict]:
    """The rows of the stages' metrics.jsonl, in the order of epochs."""
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def run(section: dict, inputs: list[tuple[str, Path]], out: Path, record: dict) -> None:
    """Draws the figure of `section` to `out` (PNG), and writes its data as JSON beside it."""
    plugin = load_plugin("figures", section["figure"]["name"])
    paths = {name: [path for key, path in inputs if key == name] for name, _ in inputs}
    filled = FigureInputs(
        experiment=section,
        curves=read_curves(paths.get("curves", [])),
        graphs={stage: path.parent for stage, path in zip(section["stages"], paths.get("graph", []), strict=False)},
        features={name.split("_")[1]: path[0] for name, path in paths.items() if name.startswith("features_")},
        stage_features=dict(zip(section["stages"], paths.get("stage_features", []), strict=False)),
        metrics=[read_json(path) for path in paths.get("metrics", [])],
        dataset={name.split("_")[1]: path[0].parent for name, path in paths.items() if name.startswith("dataset_")},
    )
    with atomic_path(out.with_suffix(".png")) as temporary:
        named = temporary.with_suffix(".png")
        data: Any = plugin.draw(instance(plugin.Config, section["figure"]), filled, named)
        named.replace(temporary)
    write_json(out.with_suffix(".json"), {"figure": section["figure_name"], "data": data, "record": record})
