"""Fig. 1C of the companion study in PNAS: the nearest training images behind right and wrong answers of the weighted kNN."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.core.significance import decimals_of_share
from invp.data.shards import Shards
from invp.figures._embeddings import embeddings, weighted_answers
from invp.figures._inputs import FigureInputs
from invp.figures._style import plotting, save, sheet, shown, thumbnail
from invp.plumbing.options import option

NEEDS = ("features",)


@dataclass
class Config:
    """Right and wrong answers of the weighted vote of the nearest."""

    k: int = option(100, "neighbours that vote; all training images if they are fewer, which the figure says", least=1)
    temperature: float = option(0.07, "of the votes' weights", above=0)
    each: int = option(5, "right and wrong answers, at most", least=1)
    shown: int = option(10, "neighbours of each, at most", least=1)


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws a row an answer, green frames for the true class; returns the answers and the accuracy in %."""
    (train, labels), (test, truth) = embeddings(inputs, "train"), embeddings(inputs, "test")
    answers, nearest, near = weighted_answers(train, labels, test, config.k, config.temperature)
    generator = np.random.default_rng(inputs.experiment["seed"])
    rows = [(kind, i) for kind, at in (("right", answers == truth), ("wrong", answers != truth))
            for i in generator.permutation(np.flatnonzero(at))[: config.each]]  # fmt: skip
    shards = {split: Shards(inputs.dataset[split]) for split in ("train", "test")}
    classes = [shown(name) for name in shards["train"].classes]
    pyplot = plotting()
    figure, panels = pyplot.subplots(
        len(rows), 1, figsize=(0.7 * (config.shown + 1), 1.02 * len(rows) + 0.6), squeeze=False, layout="constrained"
    )
    found = []
    for axes, (kind, i) in zip(panels[:, 0], rows, strict=True):
        own = nearest[i, : config.shown]
        frames = ["#222222", *("#2e8b57" if labels[n] == truth[i] else "#c0392b" for n in own)]
        own_caption = f"right:\n{classes[truth[i]]}" if kind == "right" else f"{classes[truth[i]]},\nsaid {classes[answers[i]]}"
        captions = [own_caption, *(f"{classes[labels[n]]}\n{s:.2f}" for n, s in zip(own, near[i], strict=False))]
        sheet(axes, [thumbnail(shards["test"], int(i)), *(thumbnail(shards["train"], int(n)) for n in own)], frames, captions)
        axes.set_xlim(0, config.shown + 1)
        answer = {"image": int(i), "truth": int(truth[i]), "answer": int(answers[i]), "nearest": own.tolist()}
        found.append({"kind": kind, **answer})
    accuracy = float(100 * (answers == truth).mean())
    said = f"{accuracy:.{decimals_of_share(len(truth))}f} % of n = {len(truth):,} test images right"
    figure.supxlabel(f"weighted kNN, K = {nearest.shape[1]}: {said}; left the test image", fontsize=7)
    save(figure, inputs, out)
    return {"accuracy": accuracy, "k": nearest.shape[1], "answers": found}
