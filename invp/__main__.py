"""The command line: each sub-command is a file, a step of the workflow in `steps/` or a way to look at results in `tools/`."""

import argparse
import dataclasses
import errno
import json
import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from invp.plumbing.commands import command_names, parsers_of, unknown
from invp.plumbing.errors import AGAIN, Stopped, UserError
from invp.plumbing.plugins import load_plugin, uses_gpu
from invp.plumbing.terminal import RED, styled

if TYPE_CHECKING:
    from invp.plumbing.jobs import Job

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


def _parsed(argv: list[str]) -> tuple[argparse.Namespace, str, ModuleType]:
    """The arguments, whether the command is of steps or tools, and its module: only the command's own file is imported."""
    commands = command_names()
    if " ".join(argv[:2]) in commands:
        argv = [" ".join(argv[:2]), *argv[2:]]
    parser, parsers = parsers_of(commands)
    given = argv[0] if argv else ""
    if not given:
        parser.print_help()
        raise SystemExit(0)
    if given not in commands:
        if not given.startswith("-"):
            raise UserError(unknown(" ".join(argv[:2]), commands))
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
    if not getattr(module, "PASSES_ON", False):
        return parser.parse_args(argv), kind, module
    own.allow_abbrev = False  # what is not this command's own is another program's, word for word
    if argv[1:2] and argv[1].startswith("-"):
        argv.insert(1, "")  # without a STUDY: no value of an option behind it is taken for one
    arguments, arguments.rest = parser.parse_known_args(argv)
    return arguments, kind, module


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


def _answered() -> int:
    """Runs the command of `sys.argv` and hands all that it printed on; its exit code."""
    try:
        arguments, kind, module = _parsed(sys.argv[1:])
        return (_run_step(arguments, module) if kind == "steps" else module.run(arguments)) or 0
    finally:
        sys.stdout.flush()  # here, where a reader who has left is no surprise, and not when Python ends


def main() -> int:
    """Runs the command of `sys.argv`; a user's mistake is one line and exit code 2."""
    try:
        return _answered()
    except UserError as error:
        print(f"{styled('error:', RED, sys.stderr)} {error}", file=sys.stderr)
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
        print(f"{styled('error:', RED, sys.stderr)} {error}: {MENDED[error.errno]}, {AGAIN}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
