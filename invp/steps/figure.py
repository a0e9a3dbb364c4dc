"""Draw one figure of one run, and keep the data behind it."""

import importlib
from typing import Any

from invp.data.tables import read_curves
from invp.figures._inputs import FigureInputs
from invp.plumbing.config import instance
from invp.plumbing.errors import UserError
from invp.plumbing.files import atomic_path, read_json, write_json
from invp.plumbing.jobs import Job
from invp.plumbing.plugins import constants, load_plugin, plugin_names
from invp.plumbing.sections import network_section


def section(study: dict, *, experiment: str, seed: int, figure: str) -> dict:
    """The figure's options and what it may say of the experiment; what it takes to build a network, only if the figure needs it."""
    options = study["loaded"][experiment]
    shown = {}
    if _needs(options["figures"][figure], "objective", "encoder"):
        objective = {"objective": options["objective"]} if _needs(options["figures"][figure], "objective") else {}
        shown = {"network": {**network_section(options), **objective}, "stage": options["stages"][-1]}
    return {
        "experiment": options["name"],
        "title": options["title"],
        "figure_name": figure,
        "figure": options["figures"][figure],
        "objective": options["objective"],
        "graph": options["graph"],
        "stages": options["stages"],
        "seed": seed,
        **shown,
    }


def loads(section: dict) -> list[str]:
    """The figure's module, and, if it needs a network, what builds that: other figures depend on no code of networks."""
    own = [f"invp.figures.{section['figure']['name']}"]
    if _needs(section["figure"], "objective", "encoder"):
        own += ["invp.steps._picture_inputs"]
    if _needs(section["figure"], "objective"):
        own += ["invp.steps._objective_inputs", f"invp.objectives.{section['objective']['name']}"]
    return own


def check(experiment: dict) -> None:
    """UserError for a figure of the objective's pictures, of an objective that makes none; for one of another kind of encoder; and for one of
    an evaluation's pictures, which are not there."""
    for entry, options in experiment["figures"].items():
        name, plugin = experiment["objective"]["name"], load_plugin("figures", options["name"])
        if hasattr(plugin, "check_encoder"):
            try:
                plugin.check_encoder(instance(plugin.Config, options), experiment["encoder"])
            except UserError as error:
                raise UserError(f"figures.{entry}: {error}") from None
        shown = constants("figures", options["name"]).get("EVALUATION")
        if shown and not any(each["name"] == shown and each["pictures"] for each in experiment["evaluations"].values()):
            raise UserError(
                f"figures.{entry} shows pictures that the evaluation {shown} keeps, and there is none with pictures above 0"
            )
        if _needs(options, "objective") and not _makes_pictures(name):
            valid = ", ".join(other for other in plugin_names("objectives") if _makes_pictures(other))
            raise UserError(f"figures.{entry} shows pictures that an objective makes, and {name} makes none; valid with: {valid}")


def _needs(figure: dict, *any_of: str) -> bool:
    return bool(set(any_of) & set(constants("figures", figure["name"])["NEEDS"]))


def _makes_pictures(objective: str) -> bool:
    return hasattr(load_plugin("objectives", objective).Objective, "pictures")


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
    if _needs(section["figure"], "objective", "encoder"):
        filled.test_images = importlib.import_module("invp.steps._picture_inputs").images_of(job)
    if _needs(section["figure"], "objective"):
        filled.objective = importlib.import_module("invp.steps._objective_inputs").objective_of(job)
    if _needs(section["figure"], "encoder"):
        filled.encoder = importlib.import_module("invp.steps._picture_inputs").encoder_of(job)
    out = job.outputs["figure"]
    with atomic_path(out.with_suffix(".png")) as temporary:
        named = temporary.with_suffix(".png")
        data: Any = plugin.draw(instance(plugin.Config, section["figure"]), filled, named)
        named.replace(temporary)
    write_json(out.with_suffix(".json"), {"figure": section["figure_name"], "data": data, "record": job.record})
