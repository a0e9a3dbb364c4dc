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
    """Anchors, each with positives that the loss leaves and positives that it takes."""

    anchors: int = option(8, "seeded anchors, at most", least=1)
    shown: int = option(14, "positives of each, at most", least=2)


def pairs_to_show(similarity: np.ndarray, taken: np.ndarray, shown: int) -> np.ndarray:
    """The positions of `shown` of an anchor's positives, or of all if they are fewer, the most similar first.

    The kind of the most similar one, taken by the loss or left, has half of the places and gives its most similar; the other kind has
    the rest and gives its least similar. With hard positives these are the easiest of those left and the hardest of those taken.
    """
    order = np.argsort(-similarity, kind="stable")
    near = order[taken[order] == taken[order[0]]]
    far = order[taken[order] != taken[order[0]]]
    if not len(far):
        near, far = order[: shown // 2], order[shown // 2 :]
    num_far = min(len(far), max(shown - shown // 2, shown - len(near)))
    return np.concatenate([near[: shown - num_far], far[len(far) - num_far :]])


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws a row an anchor, with both kinds of its positives; the frame is green for its class and red for another; returns the pairs."""
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
        own = own[pairs_to_show(similarity[own], taken[own], config.shown)]
        numbers = [int(anchor), *positives[own].tolist()]
        same = [labels[n] == labels[anchor] or labels[n] < 0 for n in numbers]
        frames = ["#222222", *("#2e8b57" if right else "#c0392b" for right in same[1:])]
        captions = ["anchor", *(f"{distance[i]}{'*' if taken[i] else ''} {similarity[i]:.2f}" for i in own)]
        sheet(axes, [thumbnail(shards, n) for n in numbers], frames, captions)
        found.append({"anchor": int(anchor), "positives": [
            {"image": int(positives[i]), "steps": int(distance[i]), "similarity": float(similarity[i]), "chosen": bool(taken[i])} for i in own
        ]})  # fmt: skip
        axes.set_xlim(0, config.shown + 1)
    words = "half of a row the positives that the loss takes (*), half those that it leaves, where there are so many"
    figure.supxlabel(f"{words}; below each: steps of the walk and similarity to the anchor", fontsize=7)
    save(figure, inputs, out)
    return {"stage": stage, "anchors": found}
