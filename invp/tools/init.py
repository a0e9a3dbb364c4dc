"""Write a folder of your own to work in: a Snakefile, a study, an experiment that extends ours, and the profiles."""

import argparse
import shutil
from pathlib import Path

from invp.plumbing.errors import UserError
from invp.plumbing.folders import HOME, INSTALLED

TEMPLATE = Path(__file__).parent / "own_folder"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="a new or empty folder")


def run(arguments: argparse.Namespace) -> None:
    """Writes the folder and says how to run what is in it; UserError if it is not empty."""
    folder = arguments.folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not an empty folder: name a new one")
    without_caches = shutil.ignore_patterns("__pycache__", "__init__.py")
    shutil.copytree(TEMPLATE, folder, dirs_exist_ok=True, ignore=without_caches)
    shutil.copytree(HOME / "profiles", folder / "profiles", ignore=without_caches)
    # A clone is not among the packages that Python finds from everywhere: the Snakefile names it.
    snakefile = folder / "Snakefile"
    line = "" if INSTALLED else f"import sys\n\nsys.path.insert(0, {str(HOME)!r})\n"
    snakefile.write_text(snakefile.read_text().replace("$find_clone\n", line))
    (folder / ".gitignore").write_text("/results/\n/.snakemake/\n")
    print(f"{folder} is ready. Run its study: cd {folder} && snakemake --profile profiles/local all")
