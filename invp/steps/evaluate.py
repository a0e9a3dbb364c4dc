"""Make one downstream evaluation of one stage: metrics.json with its protocol card."""

import argparse
import dataclasses
import math
from types import ModuleType
from typing import Any

from invp.data.answers import packed
from invp.plumbing.config import instance
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json, write_json
from invp.plumbing.jobs import Job
from invp.plumbing.metrics import metric_of
from invp.plumbing.plugins import load_plugin
from invp.plumbing.sections import training_section
from invp.steps import _evaluation


def uses_gpu(section: dict) -> bool:
    """Whether the evaluation uses a GPU, or, where its parts are jobs of their own, what is left for this one does."""
    plugin = _evaluation.plugin_of(section)
    in_parts = bool(_evaluation.parts_of(section["evaluation"]))
    return getattr(plugin, "GATHERS_ON_GPU", False) if in_parts else getattr(plugin, "GPU", True)


def section(study: dict, *, experiment: str, seed: int, stage: int, eval: str) -> dict:
    """The evaluation's options and what its protocol card says; the network's only if the evaluation runs it."""
    options = study["loaded"][experiment]
    evaluation = options["evaluations"][eval]
    content = {
        "experiment": options["name"],
        "evaluation_name": eval,
        "evaluation": evaluation,
        "dataset": options["evaluation_datasets"][eval],
        "pretraining_dataset": options["dataset_id"],
        "objective": options["objective"]["name"] if stage else "none",
        "given_weights": options["weights"]["file"] if options["weights"] else "",
        "epochs": training_section(options).get("epochs"),
        "seed": seed,
        "stage": stage,
        "encoder_name": options["encoder"]["name"],
        "head_kind": options["head"]["kind"],
    }
    return {**content, **_evaluation.network_of(options, evaluation)}


def loads(section: dict) -> list[str]:
    """The evaluation's module, and what reads its inputs."""
    return _evaluation.modules_of(section)


def check(experiment: dict) -> None:
    """UserError, when the study is read, for an evaluation that could not be made of the encoder."""
    for entry, options in experiment["evaluations"].items():
        plugin = load_plugin("evals", options["name"])
        if hasattr(plugin, "check_encoder"):
            try:
                plugin.check_encoder(instance(plugin.Config, options), experiment["encoder"])
            except UserError as error:
                raise UserError(f"evaluations.{entry}: {error}") from None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the step is told of its machine."""
    _evaluation.add_arguments(parser)


def evaluated(plugin: ModuleType, config: Any, inputs: Any, made: dict[str, dict], *, seed: int, device: str) -> dict:
    """What an evaluation gives. If it falls into parts, these are `made`, or all are made here; UserError if some are missing."""
    if not hasattr(plugin, "parts"):
        return plugin.evaluate(config, inputs, seed=seed, device=device)
    found = {}
    for name, options in plugin.parts(config).items():
        if made and name not in made:
            raise UserError(f"part {name!r} is missing: give all of {', '.join(plugin.parts(config))}, or none")
        own = dataclasses.replace(config, **options)
        found[name] = made[name] if made else plugin.evaluate_part(own, inputs, name, seed=seed, device=device)
    return plugin.evaluate(config, inputs, found, seed=seed, device=device)


def run(job: Job) -> None:
    """Evaluates and writes metrics.json; a metric that is no finite number is a UserError, as is a part that was not made."""
    section = job.section
    if job.not_made:
        raise UserError(job.not_made[0].reason)
    plugin = _evaluation.plugin_of(section)
    config, inputs = instance(plugin.Config, section["evaluation"]), _evaluation.inputs_of(job)
    made = {content["part"]: content["result"] for content in map(read_json, job.inputs.get("part", []))}
    result = evaluated(plugin, config, inputs, made, seed=section["seed"], device=_evaluation.device(uses_gpu(section)))
    for name, value in result["metrics"].items():
        if not math.isfinite(value):
            raise UserError(f"{section['evaluation_name']} of {section['experiment']}: {name} is {value}")
    right = result.pop("answers", {})
    for name, own in right.items():
        assert len(own) == result["protocol"].get("test_images"), "protocol.test_images counts the answers"
        assert math.isclose(100 * sum(own) / len(own), result["metrics"][name]), (
            f"{name} is not the share of answers that are right"
        )
    horizon = f" of {section['epochs']}" if section["epochs"] else ""  # where the rate depends on it
    card = {
        "data": section["dataset"],
        "trained_on": trained_on(section),
        "network": f"{section['encoder_name']}, head {section['head_kind']}",
        "objective": section["objective"],
        "epoch": f"{section['stage']}{horizon}, the last of its stage",
        "seed": section["seed"],
    }
    content = {
        "experiment": section["experiment"],
        "seed": section["seed"],
        "stage": section["stage"],
        "eval": section["evaluation_name"],
        "evaluation": section["evaluation"],
        **result,
        "units": {name: metric_of(plugin.METRICS, name)._asdict() for name in result["metrics"]},
        "protocol": {**result["protocol"], **card},
        "record": job.record,
        # Last, since nobody reads them: right or wrong, a bit a test image.
        "answers": {name: packed(own) for name, own in right.items()},
    }
    write_json(job.outputs["metrics"], content)
    _evaluation.forget_saved(job)


def trained_on(section: dict) -> str:
    """What a network has learned from, in words."""
    weights, data = section["given_weights"], section["pretraining_dataset"]
    if not section["stage"]:
        return f"as in {weights}" if weights else "nothing"
    return f"{data}, from {weights}" if weights else data
