"""Write a study that compares methods on a folder of images in a given time, from the machine's measured speed."""

import argparse
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from invp.pages.tables import aligned
from invp.plumbing.config import data_root, instance
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import NAME, NAMES, load
from invp.plumbing.files import atomic_path
from invp.plumbing.plugins import load_plugin
from invp.tools import _compare_methods as methods
from invp.tools import _compare_speed as speed
from invp.tools._compare_choice import ENOUGH, FOR_JOBS, STAGES, Choice, ladder
from invp.tools._compare_images import Images, look, name_of, section_of
from invp.tools._compare_time import Clock, minutes

EXPERIMENTS = Path("config/experiments")
PROFILE = Path("profiles/local")
SHOWN = (
    "num_negatives",
    "num_keys",
    "num_rows",
    "queue_length",
    "num_clusters",
    "ramp_epoch",
    "warmup_epochs",
)  # options that depend on the images
MARK = "# Written by `python -m invp compare`; change it as you like."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="images, or a folder of images a class, or train and test of such",
    )
    parser.add_argument("--methods", required=True, help="objectives or kinds of experiments, with commas: invp,simclr,moco-v2")
    parser.add_argument("--minutes", type=float, required=True, help="that the whole study may take on this machine as it is now")
    parser.add_argument(
        "--seeds", type=int, default=1, help="trainings of each method; with one, nothing is known of their spread (default: 1)"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="the study (default: config/studies/compare-FOLDER.yaml); its name begins those of the experiments",
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the experiments and the study, says what was chosen and why, and the command that runs it."""
    sources = {
        kind: methods.loaded(name) for kind, name in methods.chosen([name.strip() for name in arguments.methods.split(",")]).items()
    }
    out = arguments.out or Path("config/studies") / f"compare-{name_of(arguments.data.absolute())}.yaml"
    refuse(arguments, out, list(sources))
    images = look(arguments.data)
    with tempfile.TemporaryDirectory(prefix="invp-compare-") as folder:
        choice, clock = chosen(arguments, out.stem, sources, images, Path(folder))
    description = (
        f"{', '.join(choice.trained)} at {choice.views(choice.trained[0]):,} views each, with {network_of(choice)}, and the network untrained. "
        "The values are those of the package's experiments for CIFAR-10: none was tuned on these images."
    )
    write(choice, out, description)
    print(text(choice, clock, arguments.minutes, out))


def refuse(arguments: argparse.Namespace, out: Path, kinds: list[str]) -> None:
    """UserError for a name that no study has, a time or a number of seeds that is none, a folder without a workflow, and files that exist."""
    if not NAME.fullmatch(out.stem) or out.suffix != ".yaml":
        raise UserError(f"--out is {out}; valid: a file NAME.yaml, whose name {NAMES}")
    if not arguments.minutes > 0 or arguments.seeds < 1:
        raise UserError(
            f"--minutes is {arguments.minutes:g} and --seeds {arguments.seeds}; valid: a time above 0, and at least 1 seed"
        )
    if not (Path("Snakefile").exists() and PROFILE.is_dir()):
        raise UserError("no workflow is here; valid: a clone, or a folder made by `python -m invp init FOLDER`")
    for path in (out, *(EXPERIMENTS / f"{out.stem}-{kind}.yaml" for kind in kinds)):
        if path.exists():
            raise UserError(f"{path} exists; delete it, or name another study by --out")


def chosen(arguments: argparse.Namespace, name: str, sources: dict, images: Images, folder: Path) -> tuple[Choice, Clock]:
    """The study that fits into the time, by trainings that are timed on a sample of the images in `folder`."""
    size, encoder = ladder(images.side)[0]
    choice = Choice(name, Path(os.path.abspath(arguments.data)), images, sources, arguments.seeds, size, encoder, "fp32")
    clock = Clock(choice, arguments.minutes * 60)
    print(f"timing trainings on a sample of {images.number:,} images ...", file=sys.stderr, flush=True)
    settle_network(choice, clock, folder)
    choice.stages = clock.affordable_stages(STAGES, FOR_JOBS)
    choice.unit = clock.first_guess()
    sample(choice, clock, choice.size, folder / "methods")
    clock.time_methods(folder / "methods", {kind: section(choice, kind, folder) for kind in choice.trained})
    study = folder / f"{name}.yaml"
    write(choice, study, "")
    try:
        clock.plan(study, PROFILE)
    finally:
        for kind in sources:
            file_of(choice, kind).unlink()
    choice.unit = clock.fitting_unit()
    return choice, clock


def sample(choice: Choice, clock: Clock, size: int, folder: Path) -> None:
    """Prepares a sample of the training images for views of so many pixels."""
    options = section_of(choice.images, choice.name, size)
    options.pop("id")
    plugin = load_plugin("datasets", options["name"])
    clock.reading = speed.prepared(plugin.load(instance(plugin.Config, options), choice.images.root, "train"), folder)


def section(choice: Choice, kind: str, folder: Path) -> dict[str, Any]:
    """What the step pretrain would see of a method's last stage."""
    path = folder / f"{choice.experiment_name(kind)}.yaml"
    path.write_text(OmegaConf.to_yaml(OmegaConf.create(choice.experiment(kind))))
    loaded = {choice.experiment_name(kind): load(path)}
    pretrain = load_plugin("steps", "pretrain")
    return pretrain.section({"loaded": loaded}, experiment=choice.experiment_name(kind), seed=0, stage=choice.ends(kind)[-1])


def settle_network(choice: Choice, clock: Clock, folder: Path) -> None:
    """Takes the dearest network of the ladder that sees enough views in the time, in the precision that is faster here."""
    rungs, sections = ladder(choice.images.side), []
    sample(choice, clock, rungs[-1][0], folder / "ladder")
    for choice.size, choice.encoder in rungs:
        sections.append(section(choice, choice.trained[0], folder))
    choice.precision, rates = clock.climb(folder / "ladder", sections, ENOUGH)
    choice.size, choice.encoder = rungs[len(rates) - 1]


def file_of(choice: Choice, kind: str) -> Path:
    """The file of a method's experiment."""
    return EXPERIMENTS / f"{choice.experiment_name(kind)}.yaml"


def write(choice: Choice, out: Path, description: str) -> None:
    """Writes the study and its experiments."""
    files = {file_of(choice, kind): choice.experiment(kind) for kind in choice.sources}
    study = choice.study(description)
    if choice.images.root != data_root().absolute():
        study["data_root"] = str(choice.images.root)
    for path, content in {**files, out: study}.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(path) as temporary:
            temporary.write_text(f"{MARK}\n{OmegaConf.to_yaml(OmegaConf.create(content))}", encoding="utf-8")


def network_of(choice: Choice) -> str:
    """The network in words."""
    width = f" of width {choice.encoder['width']}" if "width" in choice.encoder else ""
    return f"{choice.encoder['name']}{width} at {choice.size} pixels"


def text(choice: Choice, clock: Clock, minutes_asked: float, out: Path) -> str:
    """What was chosen and why, what it will take, and the command."""
    images, total = choice.images, clock.total(choice.unit)
    labels = f"{images.classes} classes" if images.classes else "no labels: nothing is measured against them"
    unusable = f"; {images.unusable} of a sample cannot be used and will be left out" if images.unusable else ""
    lines = [
        f"{choice.folder}: {images.number:,} training images, {labels}, {images.side} pixels; {images.held_out:,} test images, {images.split}{unusable}.",
        f"Network: {network_of(choice)}, {choice.precision}: the largest of ours with which each method sees at least {ENOUGH:,} views in the time, else "
        f"the smallest. It trains {clock.rate:,.0f} images a second in one of {clock.side_by_side} trainings side by side.",
        f"Batch {choice.batch}{'' if choice.batch == 128 else ', an eighth of the images at most'}; InvP and the instance loss sum over "
        f"{'all images' if images.number <= methods.FULL_SUMS else 'the M nearest images, as published'}. No value was tuned on your images.",
        f"Equal views for each method; {choice.stages} stages, each of which is evaluated.",
        "",
    ]
    header = ["method", "views", "epochs", "steps", "images/s", "minutes of training", "options"]
    rows = []
    for kind in choice.sources:
        epochs, objective = choice.epochs(kind), choice.experiment(kind)["objective"]
        steps = epochs * (images.number // choice.batch)
        spent = clock.training_seconds(kind, 1, epochs) if epochs else 0.0
        rate = f"{steps * choice.batch / spent:,.0f}" if epochs else "-"
        own = ", ".join(f"{key} {objective[key]}" for key in SHOWN if key in objective) if epochs else "-"
        rows.append([kind, f"{choice.views(kind):,}", str(epochs), f"{steps:,}", rate, minutes(spent), own])
    lines.append(aligned(header, rows))
    seeds = f", {choice.seeds} seeds each" if choice.seeds > 1 else ", one seed: nothing can be told over seeds"
    lines.append(
        f"{len(choice.trained)} methods{seeds}. {len(clock.jobs)} jobs on {clock.cores} cores: {minutes(total)} minutes promised, with the machine as "
        f"busy as now; {minutes(clock.core_seconds())} minutes of one core."
    )
    if total > clock.limit:
        lines.append(
            f"That is more than the {minutes_asked:g} asked for: what starts jobs takes so long. Name fewer methods or seeds, or more minutes."
        )
    words = ["snakemake", "--profile", str(PROFILE), "all", "--configfile", str(out)]
    lines += [f"Written: {out}, and {len(choice.sources)} experiments in {EXPERIMENTS}. Run it:", "", f"  {shlex.join(words)}"]
    lines += ["", f"The answer will be in results/studies/{choice.name}/comparison.html"]
    return "\n".join(lines)
