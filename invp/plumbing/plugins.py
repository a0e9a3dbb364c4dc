"""Finding by file: a name in a configuration, a step or a tool is the name of a file in its folder."""

import ast
import difflib
import importlib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from invp.plumbing.errors import UserError

PACKAGE = Path(__file__).parent.parent
KINDS = ("datasets", "objectives", "evals", "figures")


def plugin_names(kind: str) -> list[str]:
    """The names of the files in `invp/{kind}`, sorted, without those that begin with '_'; `kind` may be steps or tools too."""
    return sorted(path.stem for path in (PACKAGE / kind).glob("*.py") if not path.stem.startswith("_"))


def nearest(name: str, valid: list[str]) -> str:
    """' (did you mean X?)' for the valid name most like `name`, or the list of all."""
    match = difflib.get_close_matches(str(name), valid, 1, cutoff=0.5)
    return f"; did you mean '{match[0]}'?" if match else f"; valid: {', '.join(valid)}"


def load_plugin(kind: str, name: str) -> ModuleType:
    """The module `invp.{kind}.{name}`; UserError names the nearest one if there is none."""
    if name not in plugin_names(kind):
        raise UserError(f"there is no {name!r} in invp/{kind}{nearest(name, plugin_names(kind))}")
    return importlib.import_module(f"invp.{kind}.{name}")


@cache
def constants(kind: str, name: str) -> dict[str, Any]:
    """The literal constants at the top of a plug-in's file, as NEEDS, without importing it: that may take torch."""
    if name not in plugin_names(kind):
        load_plugin(kind, name)  # says which names there are
    found = {}
    for line in ast.parse((PACKAGE / kind / f"{name}.py").read_text(encoding="utf-8")).body:
        if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name):
            try:
                found[line.targets[0].id] = ast.literal_eval(line.value)
            except ValueError:
                continue
    return found


def uses_gpu(step: ModuleType, section: dict) -> bool:
    """Whether a job of a step uses a GPU where there is one: what the step says of the job's section, or else of all."""
    return step.uses_gpu(section) if hasattr(step, "uses_gpu") else getattr(step, "GPU", False)
