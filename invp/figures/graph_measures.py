"""The neighbour graph's measures over the stages: whose class the edges and the discovered positives have, and how the graph settles."""

from dataclasses import dataclass
from pathlib import Path

from invp.figures._inputs import FigureInputs
from invp.figures._style import COLOURS, plain, plotting, save
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json

NEEDS = ("graph",)
UNLABELLED = True
MULTI_LABEL = True
PURITY = {
    "same_class_share": "edges",
    "positives_same_class": "discovered positives",
    "nearest_same_class_of_as_many": "as many nearest neighbours",
    "other_positives_same_class": "positives that the loss leaves",
    "chosen_positives_same_class": "positives that the loss takes",
}
STRUCTURE = {
    "mutual_share": "mutual edges",
    "overlap_with_previous": "as in the stage before",
    "never_a_neighbour": "never a neighbour",
}


@dataclass
class Config:
    """No options."""


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws shares of the same class, shares by step of the walk, and structure over stages; returns them by name."""
    measures = {stage: read_json(folder / "summary.json")["measures"] for stage, folder in sorted(inputs.graphs.items())}
    if not measures:
        raise UserError(f"{inputs.experiment['experiment']} has no graph to draw: set graph.snapshot")
    names = sorted({name for values in measures.values() for name in values})
    steps = {n: f"step {n.rsplit('_', 1)[1]}" for n in names if n.startswith("positives_same_class_step_")}
    pyplot = plotting()
    figure, panels = pyplot.subplots(1, 3, figsize=(11, 3.3), layout="constrained")
    for axes, lines, label in zip(
        panels, (PURITY, steps, STRUCTURE), ("of the same class", "positives of the same class", "share"), strict=True
    ):
        for (name, word), colour in zip(lines.items(), COLOURS, strict=False):
            points = [(stage, values[name]) for stage, values in measures.items() if name in values]
            if points:
                axes.plot(*zip(*points, strict=True), marker="o", ms=4, label=word, color=colour)
        axes.set(xlabel="epoch", ylabel=label)
        if axes.lines:
            axes.legend(frameon=False, fontsize=7)
    plain(*panels)
    save(figure, inputs, out)
    return {str(stage): values for stage, values in measures.items()}
