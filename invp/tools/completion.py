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
    """The parser of the users' commands as a shell sees them: `inspect graph` is `graph` of `inspect`.

    Where a group is a command too, as `export` beside `export graph`, its parser has the options of all of them.
    """
    parser = argparse.ArgumentParser(prog="invp", description=DESCRIPTION)
    groups = {"": parser.add_subparsers()}
    tools = {command: name for command, (kind, name) in command_names().items() if kind == "tools"}
    commands: dict[str, argparse.ArgumentParser] = {}
    for command, name in sorted(tools.items()):
        *before, last = command.split()
        group = "".join(before)
        if group in commands:
            own = commands[group]
        else:
            if group not in groups:
                groups[group] = groups[""].add_parser(group, help=f"{group} ...").add_subparsers()
            own = groups[group].add_parser(last, help=summary_of("tools", name), conflict_handler="resolve")
            commands[command] = own
        load_plugin("tools", name).add_arguments(own)
        for action in own._actions:
            if action.dest == "study":
                action.complete = STUDIES
            elif action.type is Path:
                action.complete = shtab.FILE
    return parser
