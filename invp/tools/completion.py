"""Print a shell's completion of `invp`: commands, options, files and names of studies."""

import argparse
from pathlib import Path

import shtab

from invp.plumbing.commands import DESCRIPTION, command_names, summary_of
from invp.plumbing.plugins import load_plugin

HOW = (
    "for bash: invp completion bash > ~/.local/share/bash-completion/completions/invp; for zsh: a file _invp in a folder of $fpath"
)
STUDIES = shtab.cmd("ls config/studies 2>/dev/null | sed s/.yaml//")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = f"{HOW}."
    parser.add_argument("shell", choices=["bash", "zsh"])


def run(arguments: argparse.Namespace) -> None:
    """Prints the script."""
    print(shtab.complete(parser_in_words(), arguments.shell))


def parser_in_words() -> argparse.ArgumentParser:
    """The parser of the users' commands as a shell sees them: `inspect graph` is `graph` of `inspect`."""
    parser = argparse.ArgumentParser(prog="invp", description=DESCRIPTION)
    groups = {"": parser.add_subparsers()}
    for command, (kind, name) in command_names().items():
        if kind != "tools":
            continue
        *before, last = command.split()
        group = "".join(before)
        if group not in groups:
            groups[group] = groups[""].add_parser(group, help=f"{group} ...").add_subparsers()
        own = groups[group].add_parser(last, help=summary_of(kind, name))
        load_plugin(kind, name).add_arguments(own)
        for action in own._actions:
            if action.dest == "study":
                action.complete = STUDIES
            elif action.type is Path:
                action.complete = shtab.FILE
    return parser
