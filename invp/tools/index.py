"""Write the page over all studies of a results folder, index.html."""

import argparse
from pathlib import Path

from invp.pages.index import write_index


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the folder."""
    parser.add_argument("results", type=Path, nargs="?", default=Path("results"), help="the folder (default: results)")


def run(arguments: argparse.Namespace) -> None:
    """Writes the page and prints where it lies."""
    print(write_index(arguments.results))
