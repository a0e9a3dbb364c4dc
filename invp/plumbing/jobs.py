"""What a step is called with, by the command line on behalf of Snakemake or of a user."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path

from invp.plumbing.not_made import NotMade
from invp.plumbing.provenance import versions


@dataclass
class Job:
    """One job: the step's name, its section, its files by name, and the digest of the code that runs it.

    `inputs` holds a list for each name, since a step may have several files of one kind; those of evaluations and figures that were
    not made are left out and described in `not_made`. `arguments` has what the step's own
    `add_arguments` asked for, such as `workers`: facts about the machine, on which no result depends.
    """

    step: str
    section: dict
    inputs: dict[str, list[Path]]
    outputs: dict[str, Path]
    code: str
    arguments: argparse.Namespace = field(default_factory=argparse.Namespace)
    not_made: list[NotMade] = field(default_factory=list)

    def input(self, name: str) -> Path:
        """The one input of this name; KeyError without it, ValueError if there are several."""
        (path,) = self.inputs[name]
        return path

    def optional(self, name: str) -> Path | None:
        """The one input of this name, or None if the job has none."""
        return self.input(name) if name in self.inputs else None

    @property
    def record(self) -> dict:
        """The part of a record that goes inside an artifact: it is equal for equal runs."""
        return {"step": self.step, "section": self.section, "code": self.code, "versions": versions()}


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Adds `--workers` to a step that reads images."""
    parser.add_argument("--workers", type=int, default=1, help="threads that decode images (default: 1)")
