"""The commands of `invp` and their parsers: each is a file of `steps/` or `tools/`, and none of them is imported to list them."""

import argparse
import sys
from difflib import get_close_matches
from pathlib import Path

from invp import __version__
from invp.plumbing.plugins import PACKAGE, plugin_names
from invp.plumbing.terminal import BOLD, styled

DESCRIPTION = "Invariance Propagation: the steps of the workflow, and ways to look at its results."


class _Help(argparse.HelpFormatter):
    """Help with bold headings on a terminal."""

    def start_section(self, heading: str | None) -> None:
        super().start_section(heading and styled(heading, BOLD))


class _HelpAsWritten(_Help, argparse.RawDescriptionHelpFormatter):
    """The same with the lines of a description as they are."""


def command_names() -> dict[str, tuple[str, str]]:
    """Command -> (steps or tools, name of the file); a tool in `inspect_graph.py` is the command `inspect graph`."""
    names = {name: ("steps", name) for name in plugin_names("steps")}
    return names | {name.replace("_", " "): ("tools", name) for name in plugin_names("tools")}


def summary_of(kind: str, name: str) -> str:
    """The first line of a command's docstring, read without importing it: --help is quick."""
    with open(PACKAGE / kind / f"{name}.py", encoding="utf-8") as file:
        line = file.readline().strip().strip('"').rstrip(".")
    return line[0].lower() + line[1:]


def program() -> str:
    """How this was called, for what help and errors say: `invp`, or `python -m invp` where it is not installed."""
    return "invp" if Path(sys.argv[0]).name == "invp" else "python -m invp"


def parsers_of(commands: dict[str, tuple[str, str]]) -> tuple[argparse.ArgumentParser, dict[str, argparse.ArgumentParser]]:
    """The parser and those of its commands, still without their arguments; help has the workflow's steps apart."""
    lines = {command: summary_of(kind, name) for command, (kind, name) in commands.items()}
    steps = [f"  {command:20}  {lines[command]}" for command, (kind, _) in commands.items() if kind == "steps"]
    parser = argparse.ArgumentParser(
        prog=program(),
        description=DESCRIPTION,
        formatter_class=_HelpAsWritten,
        epilog="\n".join([styled("steps of the workflow, which Snakemake calls:", BOLD), *steps]),
    )
    parser.add_argument("--version", action="version", version=f"invp {__version__}")
    subparsers = parser.add_subparsers(dest="command", title="commands", metavar="COMMAND")
    own = {}
    for command, (kind, _) in commands.items():
        listed = {"help": lines[command]} if kind == "tools" else {}
        description = f"{lines[command][0].upper()}{lines[command][1:]}."
        own[command] = subparsers.add_parser(command, description=description, formatter_class=_Help, **listed)
    return parser, own


def unknown(given: str, commands: dict[str, tuple[str, str]]) -> str:
    """What to say of a command that there is not: those that it may have been meant to be."""
    first = given.split()[0]
    near = [command for command in commands if command.split()[0] == first]
    near = near or get_close_matches(given, commands, n=3) or get_close_matches(first, commands, n=3)
    meant = f"did you mean {' or '.join(near)}?" if near else f"`{program()} --help` lists them"
    return f"there is no command {given if near and near[0].startswith(f'{first} ') else first}: {meant}"
