"""The golden numbers: what the small experiments of golden.yaml give, kept in golden.json, and which of them stand for a result.

A record keeps the digests of those that stood for it when it was made, so that `adopt` knows whether they are still the same.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from invp.plumbing.files import atomic_path, canonical_json, read_json

FOLDER = Path(__file__).resolve().parents[1] / "tools"  # of golden.yaml and golden.json
# How far a number may be off, since other processors round otherwise: relatively, of gradients, in 16 bits, and absolutely near zero.
RELATIVE, GRADIENT, BITS_16, ABSOLUTE = 2e-4, 5e-3, 2e-2, 1e-6
ANY = "any"  # in place of a plug-in's name, for numbers that stand for every one
# Step -> the key of its section whose `name` is the plug-in.
PLUGINS = {
    **{"prepare": "dataset", "pretrain": "objective", "graph": "objective"},
    **{"evaluate": "evaluation", "evaluate_part": "evaluation", "figure": "figure"},
}
CASES_OF = {"evaluate_part": "evaluate"}  # a step without cases of its own -> the one whose cases run its code


def plugin_of(step: str, section: dict) -> str:
    """The name of the plug-in that a step runs; `any` for a step without."""
    return section[PLUGINS[step]]["name"] if step in PLUGINS else ANY


@cache
def golden_numbers() -> dict[str, dict[str, Any]]:
    """Name of a case, STEP/PLUGIN/EXPERIMENT..., -> its numbers and texts by name."""
    return read_json(FOLDER / "golden.json")


def write_golden_numbers(cases: dict[str, dict[str, Any]]) -> None:
    """Writes golden.json, a line a number."""
    blocks = []
    for case, numbers in cases.items():
        lines = (f"  {json.dumps(name)}: {json.dumps(value, allow_nan=False)}" for name, value in numbers.items())
        blocks.append(f" {json.dumps(case)}: {{\n" + ",\n".join(lines) + "\n }")
    with atomic_path(FOLDER / "golden.json") as temporary:
        temporary.write_text("{\n" + ",\n".join(blocks) + "\n}\n", encoding="utf-8")


def digests_for(step: str, section: dict) -> dict[str, str]:
    """The cases of a step and its plug-in, or of any plug-in, with a digest of each one's numbers, 8 hexadecimal digits."""
    kind = CASES_OF.get(step, step)
    prefixes = (f"{kind}/{plugin_of(step, section)}/", f"{kind}/{ANY}/")
    return {
        case: hashlib.sha256(canonical_json(numbers).encode()).hexdigest()[:8]
        for case, numbers in golden_numbers().items()
        if case.startswith(prefixes)
    }


def differences(case: str, now: dict[str, Any]) -> list[str]:
    """A line for every number or text of a case that is not as in golden.json."""
    golden = golden_numbers().get(case, {})
    names = [*golden, *(name for name in now if name not in golden)]
    return [
        f"{name} is {now.get(name, 'missing')}, and was {golden.get(name, 'missing')}"
        for name in names
        if not _close(golden.get(name, "missing"), now.get(name, "missing"), _tolerance(case, name))
    ]


def _tolerance(case: str, name: str) -> float:
    return BITS_16 if "16-bits" in case else GRADIENT if name.startswith("gradient.") else RELATIVE


def _close(one: Any, other: Any, relative: float) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_close(a, b, relative) for a, b in zip(one, other, strict=True))
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return abs(one - other) <= relative * max(abs(one), abs(other)) + ABSOLUTE
    return one == other
