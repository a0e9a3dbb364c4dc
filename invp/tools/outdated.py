"""Name what was made with other versions of the libraries, as options of snakemake that make it again."""

import argparse
import sys
from pathlib import Path

from invp.plumbing.records import made_with_other_versions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, nargs="?", default=Path("results"))


def run(arguments: argparse.Namespace) -> None:
    """Prints the options; nothing if everything was made with the installed versions."""
    found = made_with_other_versions(arguments.path)
    if not found:
        print("everything was made with the installed versions", file=sys.stderr)
        return
    differences = sorted({f"{name} {then} -> {now}" for each in found.values() for name, (then, now) in each.items()})
    print(f"{len(found)} results were made with other versions: {', '.join(differences)}", file=sys.stderr)
    print("--forcerun", *(str(path) for path in found))
