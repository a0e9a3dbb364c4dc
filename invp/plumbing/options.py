"""Options with their valid values beside them: what may stand in a section of an experiment or in a plug-in's `Config`.

`option` makes a dataclass field; `check_options` holds values against it when a study is read. Whoever prints or documents options
reads `valid_values`.
"""

import math
from dataclasses import Field, field, fields
from typing import Any

from omegaconf import MISSING

from invp.plumbing.errors import UserError

LIMITS = {"least": "at least", "above": "above", "most": "at most", "below": "below"}


# One field, one call: each limit is a word of its own where the field is written.
def option(
    default: Any = MISSING,
    help: str = "",
    *,
    choices: tuple[str, ...] = (),
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    length: int | None = None,
    filled: bool = False,
    rising: bool = False,
    later: bool = False,
) -> Any:
    """A dataclass field with its help and valid values. The limits, and `choices`, hold for a number or text, or for each of a list.

    `length` is that of a list; `filled` asks for at least one entry, or for a text that is not empty; `rising` for a list in order. An
    option that came `later` than results of its plug-in stands in no section at its default, so that it makes none of them stale.
    Text without choices is free: a folder, a title.
    """
    limits = {"least": least, "above": above, "most": most, "below": below}
    metadata = {"help": help, "choices": choices, "limits": {name: limit for name, limit in limits.items() if limit is not None},
                "length": length, "filled": filled, "rising": rising, "later": later}  # fmt: skip
    if isinstance(default, list):
        return field(default_factory=lambda: list(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def refuse_unused(options: Any, key: str, users: dict[str, tuple[str, ...]]) -> None:
    """UserError for an option that is not at its default though it would be ignored, as what is chosen by the option `key` has no use for it.

    `users` says of each option that not all choices have which have it.
    """
    chosen = getattr(options, key)
    for declared in fields(options):
        value, valid = getattr(options, declared.name), users.get(declared.name, (chosen,))
        default = declared.default_factory() if callable(declared.default_factory) else declared.default
        if chosen not in valid and value != default:
            of = chosen if key == "name" else f"{key} {chosen}"
            raise UserError(f"{declared.name} is {value!r}, which {of} has no use for; valid with: {', '.join(valid)}")


def valid_values(declared: Field) -> str:
    """The valid values of a field in words, e.g. 'a whole number, at least 1'; without limits the type alone."""
    given = declared.metadata
    kinds = {bool: "true or false", int: "a whole number", float: "a number", float | None: "a number or null", str: "text"}
    kinds[dict[str, Any]] = "a data set's name and options"
    kind = kinds.get(declared.type) or {list[int]: "whole numbers", list[float]: "numbers", list[str]: "texts"}[declared.type]
    if declared.type in (list[int], list[float], list[str]):
        kind = f"a list of {given['length']} {kind}" if given.get("length") else f"a list of {kind}"
    if given.get("choices"):
        kind = ", ".join(given["choices"])
    parts = [kind, *(f"{LIMITS[name]} {limit:g}" for name, limit in given.get("limits", {}).items())]
    parts += ["not empty"] if given.get("filled") else []
    parts += ["rising"] if given.get("rising") else []
    return ", ".join(parts)


def _is_valid(declared: Field, value: Any) -> bool:
    given = declared.metadata
    if value is None:  # only a field that allows it is merged with it
        return True
    values = value if isinstance(value, list) else [value]
    if isinstance(value, list):
        if given.get("length") is not None and len(value) != given["length"]:
            return False
        if given.get("rising") and value != sorted(value):
            return False
    if given.get("filled") and not value:
        return False
    tests = {"least": lambda v, limit: v >= limit, "above": lambda v, limit: v > limit,
             "most": lambda v, limit: v <= limit, "below": lambda v, limit: v < limit}  # fmt: skip
    for each in values:
        if isinstance(each, float) and not math.isfinite(each):
            return False
        if given.get("choices") and each not in given["choices"]:
            return False
        if not all(tests[name](each, limit) for name, limit in given.get("limits", {}).items()):
            return False
    return True


def check_options(config_class: type, values: dict, where: str) -> None:
    """Raises UserError for the first value that its field does not allow, naming key, value and what is valid."""
    for declared in fields(config_class):
        if not _is_valid(declared, values[declared.name]):
            raise UserError(f"{where}: {declared.name} is {values[declared.name]!r}; valid: {valid_values(declared)}")
