"""What the jobs of an evaluation share: its plug-in, the parts that it falls into, and what it reads."""

import argparse
import importlib
import re
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from invp.plumbing.config import instance
from invp.plumbing.jobs import Job, add_workers
from invp.plumbing.plugins import load_plugin
from invp.plumbing.sections import network_section


def plugin_of(section: dict) -> ModuleType:
    """The evaluation's module."""
    return load_plugin("evals", section["evaluation"]["name"])


def parts_of(evaluation: dict) -> dict[str, dict]:
    """The parts that are jobs of their own, of an evaluation's checked options: name -> the options that differ in the part.

    An evaluation that falls into none, or into one, is one job.
    """
    plugin = load_plugin("evals", evaluation["name"])
    found = plugin.parts(instance(plugin.Config, evaluation)) if hasattr(plugin, "parts") else {}
    assert all(re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name) for name in found), f"names of files, not {list(found)}"
    return found if len(found) > 1 else {}


def network_of(options: dict, evaluation: dict) -> dict:
    """What a section says of the network: nothing, for an evaluation that does not run it."""
    return network_section(options) if load_plugin("evals", evaluation["name"]).NEEDS == "encoder" else {}


def modules_of(section: dict) -> list[str]:
    """The evaluation's module, and what reads its inputs: an evaluation of features depends on no code of networks or images."""
    return [f"invp.evals.{section['evaluation']['name']}", f"invp.steps._{plugin_of(section).NEEDS}_inputs"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the steps are told of their machine."""
    add_workers(parser)
    parser.add_argument("--scratch", type=Path, help="folder for what a training saves until the job has succeeded (default: none)")
    parser.add_argument("--save-minutes", type=float, default=10, help="minutes between saves (default: 10)")
    parser.add_argument(
        "--max-minutes", type=float, default=0, help="save and leave with code 75 after this (0: before the SLURM job ends)"
    )


def inputs_of(job: Job) -> Any:
    """What the evaluation is given, by its NEEDS."""
    plugin = plugin_of(job.section)
    reader = importlib.import_module(f"invp.steps._{plugin.NEEDS}_inputs")
    return reader.read(job, getattr(plugin, "MULTI_LABEL", False))


def forget_saved(job: Job) -> None:
    """Removes what the trainings of a job saved, when its result is written."""
    if job.arguments.scratch:
        shutil.rmtree(job.arguments.scratch, ignore_errors=True)


def device(on_gpu: bool) -> str:
    """cuda if the job uses a GPU, the plug-in brought torch and it sees one, else cpu: nobody waits for an import of torch."""
    torch = sys.modules.get("torch")
    return "cuda" if on_gpu and torch is not None and torch.cuda.is_available() else "cpu"
