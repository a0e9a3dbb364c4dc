"""Train one stage from the checkpoint of the stage before."""

import argparse
import json
import sys
from pathlib import Path

import torch

from invp.plumbing.errors import UserError
from invp.plumbing.files import atomic_path
from invp.plumbing.jobs import Job, add_workers
from invp.plumbing.launch import STOPPED, leave_after
from invp.plumbing.plugins import constants, load_plugin
from invp.plumbing.sections import training_section
from invp.plumbing.staging import staged
from invp.training.checkpoint import is_of, locked
from invp.training.distributed import Group, join, on_any_process
from invp.training.loop import Stage
from invp.training.stop import StopRequest

GPU = True
FEWEST = 8  # channels of a convolution in the memory format channels_last


def loads(section: dict) -> list[str]:
    """The objective's module."""
    return [f"invp.objectives.{section['objective']['name']}"]


def section(study: dict, *, experiment: str, seed: int, stage: int) -> dict:
    """What a weight can depend on. Of stages none does, but for an objective that takes its graph where a stage begins."""
    options = study["loaded"][experiment]
    options = {**options, "training": training_section(options)}
    keys = ("objective", "encoder", "head", "augmentation", "views", "training", "weights")
    begins = [s for s in options["stages"] if s < stage] if options["objective"].get("graph") == "stage" else []
    return {**{key: options[key] for key in keys}, "graph_stages": begins, "seed": seed, "stage": stage}


def check(experiment: dict) -> None:
    """UserError for a projection head that the objective would not use, and for an encoder that sees what it must not, or not apart."""
    name, kind, input = experiment["objective"]["name"], experiment["head"]["kind"], experiment["encoder"]["input"]
    needs = constants("objectives", name)
    if kind != "none" and not needs.get("HEAD", True):
        raise UserError(f"head.kind is {kind!r}, and the objective {name} trains no head; valid: none")
    if input != needs.get("INPUT", input):
        raise UserError(f"encoder.input is {input!r}, which the objective {name} cannot be trained with; valid: {needs['INPUT']}")
    if hasattr(objective := load_plugin("objectives", name), "check_experiment"):
        objective.check_experiment(experiment)
    if experiment["encoder"].get("name") == "resnet_small":
        check_channels(experiment["encoder"], experiment["training"]["channels_last"])


def check_channels(encoder: dict, channels_last: bool) -> None:
    """UserError for a network whose training would end with "double free or corruption", or with numbers that nobody should trust."""
    channels = encoder["width"] * (encoder["width_share"] if encoder["input"] == "l+ab" else 1)
    if channels_last and channels < FEWEST:
        raise UserError(
            f"encoder.width leaves {channels:g} channels; valid with training.channels_last: at least {FEWEST}, since torch's convolutions "
            "of fewer write outside of their memory on some CPUs"
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what a training is told of its machine."""
    add_workers(parser)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for the lock and the partial checkpoint")
    parser.add_argument("--processes", type=int, default=1, help="processes on each node, one a GPU (default: 1)")
    parser.add_argument("--nodes", type=int, default=1, help="nodes of the SLURM job (default: 1)")
    parser.add_argument("--save-minutes", type=float, default=10, help="minutes between saves (default: 10)")
    parser.add_argument(
        "--max-minutes", type=float, default=0, help="save and leave with code 75 after this (0: before the SLURM job ends)"
    )


def run(job: Job) -> int:
    """Trains the stage and returns the exit code: 0, or 75 if it saved a partial checkpoint and left.

    The scratch folder holds the partial checkpoint and the lock; it is no declared output, since Snakemake would delete it before
    each try.
    """
    stop = StopRequest(job.arguments.max_minutes or leave_after())
    group = join()
    if group.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
    if not group.first:
        return _run(job, group, stop)
    with locked(job.arguments.scratch / "lock"):
        return _run(job, group, stop)


def _run(job: Job, group: Group, stop: StopRequest) -> int:
    checkpoint, metrics, scratch = job.outputs["checkpoint"], job.outputs["metrics"], job.arguments.scratch
    dataset = staged(job.input("dataset").parent)
    stage = Stage(job.section, dataset, job.optional("parent"), group, job.code, job.arguments.workers)
    finished = group.first and checkpoint.exists() and metrics.exists() and is_of(checkpoint, stage.fingerprint)
    if any(on_any_process(finished)):
        print("another process has finished this stage meanwhile", file=sys.stderr)
        group.leave()
        return 0
    partial = scratch / "partial.pt"
    stage.resume(partial)
    finished = stage.run(job.section["stage"], partial, job.arguments.save_minutes, stop)
    if finished:
        stage.sums = {}
        if group.first:
            with atomic_path(metrics) as temporary:
                temporary.write_text("".join(json.dumps(row) + "\n" for row in stage.rows))
        stage.save(checkpoint)
        if group.first:
            for name in ("partial.pt", "left.json", "stopped"):
                (scratch / name).unlink(missing_ok=True)
    elif group.first:
        print(
            f"stopped ({stop.reason or 'by another process'}): saved in epoch {stage.epoch + 1} after step {stage.step}; "
            "start again to go on",
            file=sys.stderr,
            flush=True,
        )
        (scratch / "stopped").touch()
    group.leave()
    return 0 if finished else STOPPED
