"""Finds a study by its name, and reads its configuration as the workflow does."""

import argparse
from pathlib import Path

from omegaconf import OmegaConf

from invp.plumbing.errors import UserError
from invp.plumbing.experiments import read_yaml
from invp.plumbing.folders import HOME, in_folder_or_package
from invp.plumbing.plugins import nearest

OWN = Path("config/studies")
DEFAULT = "config/config.yaml"


def add_study(parser: argparse.ArgumentParser) -> None:
    """Adds the argument `study` of a command, which `study_file` takes."""
    parser.add_argument(
        "study", metavar="STUDY", nargs="?", default="", help="a name under config/studies, or a file (default: the default study)"
    )


def study_file(given: str) -> Path:
    """The file of a study: of a name under config/studies, of the working folder or else the package; a path is taken as it is; '' is the
    default study. UserError says which names there are."""
    if not given:
        return Path(in_folder_or_package(DEFAULT))
    if Path(given).exists() or "/" in given or given.endswith((".yaml", ".yml")):
        if not Path(given).exists():
            raise UserError(f"{given} does not exist; a study is a file under config/studies, or {DEFAULT}")
        return Path(given)
    known = {path.stem: path for folder in (HOME / OWN, OWN) for path in sorted(folder.glob("*.yaml"))}
    if given not in known:
        raise UserError(f"there is no study {given!r} in {OWN}{nearest(given, sorted(known))}")
    return known[given]


def configuration_of(study: Path) -> dict:
    """The keys and values of a study with those of the default study where it has none, as Snakemake merges them."""
    default = OmegaConf.create(read_yaml(Path(in_folder_or_package(DEFAULT))))
    return OmegaConf.to_container(OmegaConf.merge(default, OmegaConf.create(read_yaml(study))))
