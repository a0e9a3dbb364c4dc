"""Run a study: an estimate first, the workflow, and at its end the table and the path of the report.

What is given besides goes to Snakemake, word for word: targets, `-n`, `--forcerun`. Its exit code is this command's.
"""

import argparse
import importlib.util
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from invp.plumbing.errors import UserError
from invp.plumbing.folders import in_folder_or_package
from invp.plumbing.studies import add_study, study_file
from invp.plumbing.terminal import BOLD, is_styled, styled
from invp.tools.plan import Plan, planned, submits

PASSES_ON = True  # arguments that are not its own are in `arguments.rest`
LOGGER = "snakemake_logger_plugin_rich"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.usage = f"{parser.prog} [STUDY] [--profile FOLDER] [--cores N] [arguments of snakemake]"
    add_study(parser)
    parser.add_argument("--profile", type=Path, metavar="FOLDER", help="the machine (default: profiles/local)")
    parser.add_argument("-c", "--cores", type=int, metavar="N", help="cores to use (default: what the profile says)")


def run(arguments: argparse.Namespace) -> int:
    """Prints the estimate, runs snakemake, and returns its exit code; the workflow itself prints the table."""
    if not (Path("Snakefile").exists() or Path("workflow/Snakefile").exists()):
        raise UserError("here is no Snakefile: go to the clone, or to a folder that `invp init FOLDER` wrote")
    study = study_file(arguments.study)
    profile = arguments.profile or Path(in_folder_or_package("profiles/local"))
    if not profile.is_dir():
        raise UserError(f"{profile} is no folder; a profile is one, such as profiles/local")
    if not arguments.rest:  # else it is not said which of the jobs will run
        print(*lines_of(planned(study, None, profile, arguments.cores), arguments.study), sep="\n", flush=True)
    return passed_on(command_of(study, profile, arguments.cores, arguments.rest))


def lines_of(plan: Plan, given: str) -> list[str]:
    """What is said before the jobs start: how long they take, and which log to follow."""
    pending = [job for job in plan.jobs if job.pending]
    if not pending:
        return []
    first = next((job for job in pending if job.rule == "pretrain"), pending[0])
    more = " ".join(["invp plan", *filter(None, [given])])
    lines = [f"{styled('estimate:', BOLD)} {plan.sentence()} More: {more}"]
    return [*lines, f"{styled('to follow:', BOLD)} tail -F {shlex.quote(first.log)}"] if first.log else lines


def command_of(study: Path, profile: Path, cores: int | None, rest: list[str]) -> list[str]:
    """Snakemake's command: with a live panel where jobs run on this terminal."""
    command = [sys.executable, "-m", "snakemake", "--profile", str(profile), *(["--cores", str(cores)] if cores else [])]
    dry = any(word in ("-n", "--dry-run", "--dryrun", "--logger") for word in rest)  # the panel has no list of what would run
    if is_styled(sys.stderr) and not dry and not submits(profile) and importlib.util.find_spec(LOGGER):
        command += ["--logger", "rich"]
    return [*command, *rest, "--configfile", str(study)]


def passed_on(command: list[str]) -> int:
    """Runs a command to its end and returns its exit code; a signal to end is for the command, which ends its jobs first."""
    child = subprocess.Popen(command)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # Ctrl-C reaches the command by itself: it is of the same terminal.
        signal.signal(number, lambda received, frame: None if received == signal.SIGINT else child.send_signal(received))
    code = child.wait()
    return code if code >= 0 else 128 - code
