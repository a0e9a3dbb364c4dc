"""The command line: each sub-command is a file, a step of the workflow in `steps/` or a way to look at results in `tools/`."""

import argparse
import dataclasses
import errno
import json
import os
import sys
import time
from contextlib import nullcontext
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from invp import __version__
from invp.plumbing.errors import AGAIN, Stopped, UserError
from invp.plumbing.plugins import PACKAGE, load_plugin, plugin_names, uses_gpu

if TYPE_CHECKING:
    from invp.plumbing.jobs import Job

DESCRIPTION = "Invariance Propagation: the steps of the workflow, and ways to look at its results."
STEP_HELP = """A step sees its section (JSON), its inputs and its outputs, and nothing else. Snakemake calls it; `snakemake -n -p` shows
the whole command, and every record.json keeps it."""
# What to do about an error of the file system.
MENDED = {
    errno.ENOSPC: "make room",
    errno.EDQUOT: "make room: the quota is used up",
    errno.EROFS: "make it writable",
    errno.ENOTDIR: "a file stands where the path has a folder: name another path",
    errno.EISDIR: "this is a folder: name a file",
    errno.EACCES: "give this user the right to read and write it",
}


class _Given(dict):
    """What a step was called with, by name: a name that is missing is the caller's mistake."""

    def __init__(self, option: str, values: dict):
        super().__init__(values)
        self.option = option

    def __missing__(self, name: str):
        raise UserError(f"{self.option} lacks {name!r}, which the step needs; `snakemake -n -p` shows whole commands")


def _pair(text: str) -> tuple[str, Path]:
    name, separator, path = text.partition("=")
    if not separator or not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=PATH")
    return name, Path(path)


def _commands() -> dict[str, tuple[str, str]]:
    """Command -> (steps or tools, name of the file); a tool in `inspect_graph.py` is the command `inspect graph`."""
    names = {name: ("steps", name) for name in plugin_names("steps")}
    return names | {name.replace("_", " "): ("tools", name) for name in plugin_names("tools")}


def _summary_of(kind: str, name: str) -> str:
    """The first line of a command's docstring, read without importing it: --help is quick."""
    with open(PACKAGE / kind / f"{name}.py", encoding="utf-8") as file:
        return file.readline().strip().strip('"').rstrip(".")


def _program() -> str:
    """How this was called, for what help and errors say: `invp`, or `python -m invp` where it is not installed."""
    return "invp" if Path(sys.argv[0]).name == "invp" else "python -m invp"


def _parser(commands: dict[str, tuple[str, str]]) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser and those of its commands, still without their arguments; help has the workflow's steps apart."""
    lines = {command: _summary_of(kind, name) for command, (kind, name) in commands.items()}
    lines = {command: line[0].lower() + line[1:] for command, line in lines.items()}
    steps = [f"  {command:20}  {lines[command]}" for command, (kind, _) in commands.items() if kind == "steps"]
    parser = argparse.ArgumentParser(
        prog=_program(),
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n".join(["steps of the workflow, which Snakemake calls:", *steps]),
    )
    parser.add_argument("--version", action="version", version=f"invp {__version__}")
    subparsers = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    own = {}
    for command, (kind, _) in commands.items():
        listed = {"help": lines[command]} if kind == "tools" else {}
        own[command] = subparsers.add_parser(command, description=f"{lines[command][0].upper()}{lines[command][1:]}.", **listed)
    return parser, own


def _parsed(argv: list[str]) -> tuple[argparse.Namespace, str, ModuleType]:
    """The arguments, whether the command is of steps or tools, and its module: only the command's own file is imported."""
    commands = _commands()
    if " ".join(argv[:2]) in commands:
        argv = [" ".join(argv[:2]), *argv[2:]]
    parser, parsers = _parser(commands)
    given = argv[0] if argv else ""
    if not given:
        parser.print_help()
        raise SystemExit(0)
    if given not in commands:
        if not given.startswith("-"):
            raise UserError(_unknown(" ".join(argv[:2]), commands))
        parser.parse_args(argv)
        parser.error("a command is missing")
    (kind, name), own = commands[given], parsers[given]
    module = load_plugin(kind, name)
    if kind == "steps":
        own.description += f" {STEP_HELP}"
        own.add_argument("--section", required=True, help="the options of this step, as JSON")
        own.add_argument("--code", help="the code digest that was planned; another one is an error")
        own.add_argument("--input", type=_pair, nargs="*", default=[], metavar="NAME=PATH", help="inputs, by name")
        own.add_argument("--output", type=_pair, nargs="+", required=True, metavar="NAME=PATH", help="outputs, by name")
        own.add_argument("--keep-log", type=Path, help="the file that this is written into, to keep that of each try")
        own.add_argument("--attempt", type=int, default=1, help="the number of this try (default: 1)")
    if hasattr(module, "add_arguments"):
        module.add_arguments(own)
    return parser.parse_args(argv), kind, module


def _unknown(given: str, commands: dict[str, tuple[str, str]]) -> str:
    """What to say of a command that there is not: those that it may have been meant to be."""
    first = given.split()[0]
    near = [command for command in commands if command.split()[0] == first]
    near = near or get_close_matches(given, commands, n=3) or get_close_matches(first, commands, n=3)
    meant = f"did you mean {' or '.join(near)}?" if near else f"`{_program()} --help` lists them"
    return f"there is no command {given if near and near[0].startswith(f'{first} ') else first}: {meant}"


def _run_step(arguments: argparse.Namespace, step: ModuleType) -> int:
    """Runs one job, keeps GPUs for it where nobody else hands them out, and writes its record; returns its exit code."""
    from invp.plumbing.jobs import Job
    from invp.plumbing.launch import run_processes
    from invp.plumbing.provenance import code_digest, step_modules
    from invp.plumbing.records import check_inputs, write_record
    from invp.plumbing.tries import drop_log, keep_log, lasting_mistake

    name, started = arguments.command, time.time()
    worker = "INVP_WORKER" in os.environ  # one of several processes of a job that another one launched
    if arguments.keep_log and not worker:
        keep_log(arguments.keep_log, arguments.attempt)
        if mistake := lasting_mistake(arguments.keep_log, arguments.attempt):
            raise UserError(mistake)
    try:
        section = json.loads(arguments.section)
    except json.JSONDecodeError as error:
        raise UserError(f"--section is not valid JSON: {error}") from None
    if not isinstance(section, dict):
        raise UserError(f"--section must map options to values, not be {arguments.section}")
    section, outputs = _Given("--section", section), _Given("--output", dict(arguments.output))
    code = code_digest(step_modules(name, section))
    if arguments.code and arguments.code != code:
        raise UserError(f"the code of {name} changed since the workflow was planned: run snakemake again")
    inputs: dict[str, list[Path]] = _Given("--input", {})
    for key, path in arguments.input:
        if not path.exists():
            raise UserError(f"--input {key}={path} does not exist")
        inputs.setdefault(key, []).append(path)
    record = outputs["record"]  # asked for before any work is done
    job = Job(name, section, inputs, outputs, code, arguments)
    if worker:
        return step.run(job) or 0
    check_inputs(job)
    processes, nodes, reason = getattr(arguments, "processes", 1), getattr(arguments, "nodes", 1), ""
    with _own_devices(step, section, processes) if nodes == 1 else nullcontext():  # of several nodes SLURM gives all
        if processes * nodes > 1:
            status = run_processes(processes, nodes, sys.argv[1:], arguments.scratch / "stopped")
        else:
            status, reason = _status_and_reason(step, job)
    if status == 0:
        if processes * nodes > 1:
            import torch  # noqa: F401  # the record names its device, which this process did not need
        write_record(record, job, started, reason)
        if arguments.keep_log:
            drop_log(arguments.keep_log, arguments.attempt)
    return status


def _status_and_reason(step: ModuleType, job: "Job") -> tuple[int, str]:
    """Runs a step; its exit code and, where that is reported instead of a failure, why nothing was made."""
    from invp.plumbing.not_made import is_reported, without_not_made, write_not_made

    made, not_made = without_not_made(job.inputs)
    seen = dataclasses.replace(job, inputs=_Given("--input", made), not_made=not_made)
    try:
        return step.run(seen) or 0, ""
    except UserError as error:
        if not is_reported(job.step) or str(error).endswith(AGAIN):
            raise
        print(f"not made: {error}", file=sys.stderr)
        write_not_made(job.outputs, job.record, str(error))
        return 0, str(error)


def _own_devices(step: ModuleType, section: dict, processes: int):
    """Keeps GPUs for a job that uses them, among those that this process may see."""
    if not uses_gpu(step, section):
        return nullcontext()
    from invp.plumbing.devices import reserved

    return reserved(processes)


def main() -> int:
    """Runs the command of `sys.argv`; a user's mistake is one line and exit code 2."""
    try:
        arguments, kind, module = _parsed(sys.argv[1:])
        return (_run_step(arguments, module) if kind == "steps" else module.run(arguments)) or 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Stopped as stopped:
        from invp.plumbing.launch import STOPPED

        print(f"stopped ({stopped}); start again to go on", file=sys.stderr)
        return STOPPED
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # whoever read the output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in MENDED:
            raise
        print(f"error: {error}: {MENDED[error.errno]}, {AGAIN}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
