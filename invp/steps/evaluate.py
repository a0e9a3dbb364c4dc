"""Make one downstream evaluation of one stage: metrics.json with its protocol card."""

import argparse
import importlib
import math
import sys

from invp.plumbing.config import instance
from invp.plumbing.errors import UserError
from invp.plumbing.files import write_json
from invp.plumbing.jobs import Job, add_workers
from invp.plumbing.metrics import metric_of
from invp.plumbing.plugins import load_plugin
from invp.plumbing.sections import network_section, training_section

GPU = True


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
    needs_network = load_plugin("evals", evaluation["name"]).NEEDS == "encoder"
    return {**content, **(network_section(options) if needs_network else {})}


def loads(section: dict) -> list[str]:
    """The evaluation's module, and what reads its inputs: an evaluation of features depends on no code of networks or images."""
    name = section["evaluation"]["name"]
    return [f"invp.evals.{name}", f"invp.steps._{load_plugin('evals', name).NEEDS}_inputs"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the step is told of its machine."""
    add_workers(parser)


def run(job: Job) -> None:
    """Evaluates and writes metrics.json; a metric that is no finite number is a UserError."""
    section = job.section
    plugin = load_plugin("evals", section["evaluation"]["name"])
    config = instance(plugin.Config, section["evaluation"])
    inputs = importlib.import_module(f"invp.steps._{plugin.NEEDS}_inputs").read(job, getattr(plugin, "MULTI_LABEL", False))
    result = plugin.evaluate(config, inputs, seed=section["seed"], device=device())
    for name, value in result["metrics"].items():
        if not math.isfinite(value):
            raise UserError(f"{section['evaluation_name']} of {section['experiment']}: {name} is {value}")
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
    }
    write_json(job.outputs["metrics"], content)


def trained_on(section: dict) -> str:
    """What a network has learned from, in words."""
    weights, data = section["given_weights"], section["pretraining_dataset"]
    if not section["stage"]:
        return f"as in {weights}" if weights else "nothing"
    return f"{data}, from {weights}" if weights else data


def device() -> str:
    """cuda if the plug-in brought torch and it sees one, else cpu: an evaluation without torch does not wait for its import."""
    torch = sys.modules.get("torch")
    return "cuda" if torch is not None and torch.cuda.is_available() else "cpu"
