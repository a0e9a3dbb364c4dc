"""Which golden cases stand for a result: together they must run every option of it that chooses code."""

from typing import Any

from invp.plumbing.golden import CASES_OF, PLUGINS, digests_for, plugin_of
from invp.tools._golden import Golden

# What a section says of the run and its names: no code is chosen by it.
SAID = {
    "pretrain": ("seed", "stage"),
    "features": ("seed", "stage", "dataset", "split"),
    "graph": ("seed", "stage"),
    "evaluate": (
        *("experiment", "evaluation_name", "dataset", "pretraining_dataset", "objective", "epochs", "seed", "stage"),
        *("given_weights", "encoder_name", "head_kind"),
    ),
    "evaluate_part": ("experiment", "evaluation_name", "part", "seed", "stage"),
    "figure": ("experiment", "title", "figure_name", "objective", "graph", "stages", "stage", "seed"),
    "prepare": ("dataset", "split"),  # the images themselves are read again
}


def choices(step: str, section: dict) -> set[str]:
    """The options of a section that choose code, as 'objective.ramp is binary'; of a number, whether it is zero."""
    found: set[str] = set()
    for key, value in section.items():
        if key == "weights":
            found.add(f"weights is {'null' if value is None else 'given'}")
        elif key == "views":  # whose code is that of the augmentation
            found.add(f"views is {'given' if value else 'empty'}")
            kinds = [{option: chosen for option, chosen in kind.items() if option != "count"} for kind in value]
            found |= {choice for kind in kinds for choice in _choices(kind, "augmentation")}
        elif key not in SAID[step]:
            # A plug-in's options are its own: another plug-in's run of an option of this name says nothing.
            found |= _choices(value, f"{key} {value['name']}" if key == PLUGINS.get(step) else key)
    return found


def _choices(value: Any, path: str) -> set[str]:
    if isinstance(value, dict):
        return {choice for key, inner in value.items() for choice in _choices(inner, f"{path}.{key}")}
    if isinstance(value, list):
        return {choice for inner in value for choice in _choices(inner, path)} or {f"{path} is empty"}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return {f"{path} is {'zero' if value == 0 else 'not zero'}"}
    return {f"{path} is {value}"}


def standing_for(golden: Golden, record: dict) -> tuple[list[str], str]:
    """The cases whose numbers stand for a record's result, and '', or [] and why there are not enough of them."""
    step, section = record["step"], record["section"]
    if "golden" not in record:
        return [], "its record is older than golden numbers in records"
    if record.get("committed") is False:
        return [], "its code was of no commit when it ran, so that nobody knows its golden numbers"
    now, plugin = digests_for(step, section), plugin_of(step, section)
    own = f"{CASES_OF.get(step, step)}/{plugin}/"
    if step in PLUGINS and step != "prepare" and not any(case.startswith(own) for case in now):
        return [], (
            f"there is no golden number of {plugin}: add an experiment with it to invp/tools/golden.yaml, and run "
            "`python -m invp golden --write` with the code as it was before the edit"
        )
    usable = {case: choices(golden.cases[case][0], golden.section(*golden.cases[case])) for case, digest in now.items()
              if record["golden"].get(case) == digest and case in golden.cases}  # fmt: skip
    left = choices(step, section)
    if not left:
        return list(usable), "" if usable else "its golden numbers were written anew since it was made"
    chosen: list[str] = []
    # What the plug-in chooses must be run with it; its own cases come first.
    for case in sorted(usable, key=lambda case: (not case.startswith(own), -len(usable[case] & left))):
        if left & usable[case]:
            chosen.append(case)
            left = left - usable[case]
    if left:
        reason = "no golden number that is as it was when it was made runs " + ", ".join(sorted(left))
        return [], reason
    return chosen, ""
