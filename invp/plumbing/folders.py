"""Where workflow, configuration and profiles lie: beside the package in a clone, inside it where it is installed."""

from pathlib import Path

from invp.plumbing.plugins import PACKAGE

INSTALLED = (PACKAGE / "workflow" / "Snakefile").exists()
HOME = PACKAGE if INSTALLED else PACKAGE.parent
EXPERIMENTS = HOME / "config" / "experiments"


def in_folder_or_package(path: str) -> str:
    """A path of the repository, such as config/published.yaml: of the working folder where it has one, else of the package."""
    return path if Path(path).exists() else str(HOME / path)
