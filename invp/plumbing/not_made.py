"""An evaluation or a figure that its step refused, in a study with `on_error: report`: its files say why, and the pages list it."""

import os
from pathlib import Path
from typing import Any, NamedTuple

from invp.plumbing.files import atomic_path, read_json, write_json

# Step -> the key of its section with the name of what it makes. A failure of the others leaves nothing to report on.
STEPS = {"evaluate": "evaluation_name", "evaluate_part": "evaluation_name", "figure": "figure_name"}
# Set by the workflow for its jobs, from the study. It is in no section and no input, since it changes nothing that is made.
VARIABLE = "INVP_ON_ERROR"
INPUTS = ("metrics", "figure_data", "part")  # the inputs among which such files may be


class NotMade(NamedTuple):
    """What was not made, and why; `stage` is None for a figure, which is of all stages."""

    experiment: str
    seed: int
    stage: int | None
    name: str
    reason: str


def is_reported(step: str) -> bool:
    """Whether a mistake that ends this step is to be reported, and not to fail the job."""
    return step in STEPS and os.environ.get(VARIABLE) == "report"


def write_not_made(outputs: dict[str, Path], record: dict[str, Any], reason: str) -> None:
    """Writes what a step would have: of data the reason, and nothing under the output's name; of a picture one that says so."""
    for name, path in outputs.items():
        if path.suffix == ".json" and name != "record":
            write_json(path, {"not_made": reason, name: {}, "record": record})
        elif path.suffix == ".png":
            from PIL import Image, ImageDraw

            picture = Image.new("RGB", (240, 60), "white")
            ImageDraw.Draw(picture).text((20, 22), f"not made: see {path.stem}.json", fill="black")
            with atomic_path(path) as temporary:
                picture.save(temporary, "png")


def without_not_made(inputs: dict[str, list[Path]]) -> tuple[dict[str, list[Path]], list[NotMade]]:
    """The inputs without files of what was not made, and what that is."""
    found: dict[Path, NotMade] = {}
    for path in (path for name in INPUTS for path in inputs.get(name, [])):
        content = read_json(path)
        if "not_made" in content:
            step, section = content["record"]["step"], content["record"]["section"]
            own = section["experiment"], section["seed"], section.get("stage"), section[STEPS[step]]
            found[path.with_suffix("")] = NotMade(*own, content["not_made"])
    # A figure's picture has the name of its data.
    return {name: [p for p in paths if p.with_suffix("") not in found] for name, paths in inputs.items()}, list(found.values())
