"""Make one of the independent parts that a downstream evaluation falls into, for `evaluate` to gather."""

import argparse

from invp.plumbing.config import instance
from invp.plumbing.files import write_json
from invp.plumbing.jobs import Job
from invp.steps import _evaluation

GPU = True


def section(study: dict, *, experiment: str, seed: int, stage: int, eval: str, part: str) -> dict:
    """The options that the part depends on: one more part changes no other."""
    options = study["loaded"][experiment]
    evaluation = options["evaluations"][eval]
    return {
        "experiment": options["name"],
        "evaluation_name": eval,
        "evaluation": {**evaluation, **_evaluation.parts_of(evaluation)[part]},
        "part": part,
        "seed": seed,
        "stage": stage,
        **_evaluation.network_of(options, evaluation),
    }


def loads(section: dict) -> list[str]:
    """The evaluation's module, and what reads its inputs."""
    return _evaluation.modules_of(section)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the step is told of its machine."""
    _evaluation.add_arguments(parser)


def run(job: Job) -> None:
    """Makes the part and writes its file."""
    section, plugin = job.section, _evaluation.plugin_of(job.section)
    config, inputs = instance(plugin.Config, section["evaluation"]), _evaluation.inputs_of(job)
    result = plugin.evaluate_part(config, inputs, section["part"], seed=section["seed"], device=_evaluation.device(GPU))
    keys = ("experiment", "seed", "stage", "evaluation", "part")
    content = {**{key: section[key] for key in keys}, "eval": section["evaluation_name"], "result": result, "record": job.record}
    write_json(job.outputs["part"], content)
    _evaluation.forget_saved(job)
