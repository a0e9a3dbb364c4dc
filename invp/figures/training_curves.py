"""Loss, its parts and the learning rate over the epochs of one run."""

from dataclasses import dataclass
from pathlib import Path

from invp.figures._inputs import FigureInputs

NEEDS = ("curves",)
COLOURS = ("#0b6e6e", "#c8553d", "#6a4c93", "#3d6fb4", "#b08900", "#7a7a7a")
UNLABELLED = True
MULTI_LABEL = True


@dataclass
class Config:
    """No options."""


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws the curves to `out` (PNG) and returns them by name."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn = ("loss", "loss_instance", "loss_invariance", "teacher_entropy", "batch_entropy", "kl")
    names = [n for n in drawn if inputs.curves and n in inputs.curves[0]]
    epochs = [row["epoch"] for row in inputs.curves]
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    found = {name: [row[name] for row in inputs.curves] for name in [*names, "learning_rate"]}
    for name, colour in zip(names, COLOURS, strict=False):
        same = [other.replace("_", " ") for other in names if found[other] == found[name]]
        if same[0] == name.replace("_", " "):  # equal curves are drawn once, by all their names
            left.plot(epochs, found[name], label=" = ".join(same), color=colour)
    ramp_epoch = inputs.experiment["objective"].get("ramp_epoch", 0)
    if inputs.experiment["objective"].get("ramp", "constant") != "constant" and 0 < ramp_epoch < len(epochs):
        left.axvline(ramp_epoch, color="grey", ls="--", lw=1, label=f"w(t) = 1 after epoch {ramp_epoch}")
    if "uniform_loss" in inputs.curves[0]:
        left.axhline(inputs.curves[0]["uniform_loss"], color="grey", ls=":", lw=1, label="log M (collapse)")
    if "batch_entropy" in found:
        left.axhline(0, color="grey", ls="-.", lw=1, label="batch entropy 0 (collapse)")
    figure.legend(loc="outside lower center", ncols=5, frameon=False)
    left.set(xlabel="epoch", ylabel="loss, nats")
    right.plot(epochs, found["learning_rate"], color="#3d6fb4")
    right.set(xlabel="epoch", ylabel="learning rate")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    figure.suptitle(inputs.experiment["title"] or inputs.experiment["experiment"])
    figure.savefig(out, dpi=130)
    pyplot.close(figure)
    return {"epoch": epochs, **found}
