"""Fig. 2b of InvP: anchors with what the walk through the last stage's graph found, and what of it the loss takes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.data.shards import Shards
from invp.figures._inputs import FigureInputs
from invp.figures._style import plotting, save, sheet, thumbnail
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_table
from invp.plumbing.options import option

NEEDS = ("graph",)
UNLABELLED = True
MULTI_LABEL = True


@dataclass
class Config:
    """Anchors, each with the most similar of its positives and the hardest."""

    anchors: int = option(8, "seeded anchors, at most", least=1)
    shown: int = option(14, "positives of each, at most", least=2)


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws a row an anchor; the frame is green for its class and red for another; returns the pairs."""
    stage = max(inputs.graphs)
    table = read_table(inputs.graphs[stage] / "positives.arrow")
    anchors, positives = table["anchor"].to_numpy(), table["positive"].to_numpy()
    distance, similarity, taken = (table[n].to_numpy(zero_copy_only=False) for n in ("distance", "similarity", "chosen"))
    shards = Shards(inputs.dataset["train"])
    labels = shards.labels.numpy()
    present = np.unique(anchors)
    chosen = np.random.default_rng(inputs.experiment["seed"]).permutation(present)[: config.anchors]
    if not len(chosen):
        raise UserError(f"the graph of stage {stage} has no positives to draw")
    pyplot = plotting()
    figure, rows = pyplot.subplots(
        len(chosen), 1, figsize=(0.62 * (config.shown + 1), 0.85 * len(chosen) + 0.6), squeeze=False, layout="constrained"
    )
    found = []
    for axes, anchor in zip(rows[:, 0], chosen, strict=True):
        own = np.flatnonzero(anchors == anchor)
        own = own[np.argsort(-similarity[own], kind="stable")]
        half = config.shown // 2
        own = own if len(own) <= config.shown else np.concatenate([own[:half], own[half - config.shown :]])
        numbers = [int(anchor), *positives[own].tolist()]
        same = [labels[n] == labels[anchor] or labels[n] < 0 for n in numbers]
        frames = ["#222222", *("#2e8b57" if right else "#c0392b" for right in same[1:])]
        captions = ["anchor", *(f"{distance[i]}{'*' if taken[i] else ''} {similarity[i]:.2f}" for i in own)]
        sheet(axes, [thumbnail(shards, n) for n in numbers], frames, captions)
        found.append({"anchor": int(anchor), "positives": [
            {"image": int(positives[i]), "steps": int(distance[i]), "similarity": float(similarity[i]), "chosen": bool(taken[i])} for i in own
        ]})  # fmt: skip
        axes.set_xlim(0, config.shown + 1)
    figure.supxlabel("below each: steps of the walk, * where the loss takes it, similarity to the anchor", fontsize=7)
    save(figure, inputs, out)
    return {"stage": stage, "anchors": found}
