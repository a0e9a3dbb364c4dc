"""Print the options of an experiment or a study: default, valid values, and what a change runs again."""

import argparse
from collections.abc import Iterator
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import Field, fields
from pathlib import Path

from omegaconf import MISSING

from invp.plumbing.errors import UserError
from invp.plumbing.options import valid_values
from invp.plumbing.plugins import KINDS, load_plugin, nearest, plugin_names
from invp.plumbing.sections import SECTIONS, Augmentation, Study, View, Weights

# The key of a plug-in's options in an experiment: `objective.invp` is the section `objective` with `name: invp`.
KEYS = {"datasets": "dataset", "objectives": "objective", "evals": "evaluation", "figures": "figure"}
RERUNS = {
    "study": "the tables and pages; a new experiment or seed runs alone",
    "dataset": "the preparation of the set, and all that uses it",
    "objective": "the pretraining, and all that follows from it",
    "encoder": "the pretraining, and all that follows from it",
    "head": "the pretraining, and all that follows from it",
    "augmentation": "the pretraining, and all that follows from it",
    "views": "the pretraining, and all that follows from it",
    "training": "the pretraining, and all that follows from it",
    "weights": "the pretraining, and all that follows from it",
    "graph": "the graphs, the explorer and figures of graphs",
    "evaluation": "this evaluation, the tables and pages",
    "figure": "this figure and the report",
}
HEADER = """# Every option

Made from the code by `python -m invp options --markdown`, and a test holds it equal: the sections of an experiment, and the options of
each plug-in beside its `name`. `python -m invp options objective.invp` prints one of them. A wrong key, type or value fails when the study
is read. How an experiment is written stands in [the tutorial](tutorial.md#4-change-one-option).
"""


def all_options() -> dict[str, type]:
    """The dataclass of each section and plug-in, by the name that the command takes."""
    plugins = {f"{KEYS[kind]}.{name}": load_plugin(kind, name).Config for kind in KINDS for name in plugin_names(kind)}
    return {"study": Study, **SECTIONS, "views": View, "weights": Weights, **plugins}


def fields_of(config_class: type) -> list[Field]:
    """The options that are listed: of a kind of view its own alone, since the others are those of `augmentation`."""
    known = {declared.name for declared in fields(Augmentation)} if config_class is View else ()
    return [declared for declared in fields(config_class) if declared.name not in known]


def default_of(declared: Field) -> str:
    """The default of a field in YAML's words; 'needed' for one without."""
    value = declared.default if declared.default_factory is NO_DEFAULT else declared.default_factory()
    if value is MISSING or value == MISSING:
        return "needed"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in value)}]"
    return str(value) if value != "" else '""'


def summary_of(config_class: type) -> str:
    """The first paragraph of a dataclass's docstring, in one line."""
    return " ".join((config_class.__doc__ or "").split("\n\n")[0].split())


def lines_of(name: str, config_class: type) -> Iterator[str]:
    """The options of a section or plug-in as text for the terminal."""
    yield f"{name}: {summary_of(config_class)}"
    yield f"  a change runs again: {RERUNS[name.split('.')[0]]}"
    for declared in fields_of(config_class):
        yield f"  {declared.name}: {default_of(declared)}"
        yield f"      {declared.metadata['help']}; valid: {valid_values(declared)}"


def page() -> str:
    """docs/options.md."""
    parts = [HEADER]
    for name, config_class in all_options().items():
        parts.append(f"## {name}\n\n{summary_of(config_class)} A change runs again: {RERUNS[name.split('.')[0]]}.\n")
        if declared := fields_of(config_class):
            rows = [(d.name, default_of(d), valid_values(d), d.metadata["help"]) for d in declared]
            cells = [[cell.replace("|", r"\|").replace("\\ ", r"\\ ") for cell in row] for row in rows]
            table = [f"| `{key}` | `{default}` | {valid} | {text} |\n" for key, default, valid, text in cells]
            parts.append("| key | default | valid | what it is |\n|---|---|---|---|\n" + "".join(table))
    return "\n".join(parts)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", help="a section (training) or a plug-in (objective.invp, evaluation.knn); all without one"
    )
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the reference page of all options instead")


def run(arguments: argparse.Namespace) -> None:
    """Prints the options that are asked for, or writes the page."""
    if arguments.markdown:
        arguments.markdown.write_text(page(), encoding="utf-8")
        return
    known = all_options()
    if arguments.name is not None and arguments.name not in known:
        raise UserError(f"there are no options {arguments.name!r}{nearest(arguments.name, list(known))}")
    for name in [arguments.name] if arguments.name else known:
        print("\n".join(lines_of(name, known[name])))
