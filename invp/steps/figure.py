"""Draw one figure of one run, and keep the data behind it."""

from typing import Any

from invp.data.tables import read_curves
from invp.figures._inputs import FigureInputs
from invp.plumbing.config import instance
from invp.plumbing.files import atomic_path, read_json, write_json
from invp.plumbing.jobs import Job
from invp.plumbing.plugins import load_plugin


def section(study: dict, *, experiment: str, seed: int, figure: str) -> dict:
    """The figure's options and what it may say of the experiment."""
    options = study["loaded"][experiment]
    return {
        "experiment": options["name"],
        "title": options["title"],
        "figure_name": figure,
        "figure": options["figures"][figure],
        "objective": options["objective"],
        "graph": options["graph"],
        "stages": options["stages"],
        "seed": seed,
    }


def loads(section: dict) -> list[str]:
    """The figure's module."""
    return [f"invp.figures.{section['figure']['name']}"]


def run(job: Job) -> None:
    """Draws the figure (PNG), and writes its data as JSON beside it."""
    section, inputs = job.section, job.inputs
    plugin = load_plugin("figures", section["figure"]["name"])
    filled = FigureInputs(
        experiment=section,
        curves=read_curves(inputs.get("curves", [])),
        graphs={stage: path.parent for stage, path in zip(section["stages"], inputs.get("graph", []), strict=False)},
        features={name.split("_")[1]: paths[0] for name, paths in inputs.items() if name.startswith("features_")},
        stage_features=dict(zip(section["stages"], inputs.get("stage_features", []), strict=False)),
        metrics=[read_json(path) for path in inputs.get("metrics", [])],
        dataset={name.split("_")[1]: paths[0].parent for name, paths in inputs.items() if name.startswith("dataset_")},
    )
    out = job.outputs["figure"]
    with atomic_path(out.with_suffix(".png")) as temporary:
        named = temporary.with_suffix(".png")
        data: Any = plugin.draw(instance(plugin.Config, section["figure"]), filled, named)
        named.replace(temporary)
    write_json(out.with_suffix(".json"), {"figure": section["figure_name"], "data": data, "record": job.record})
