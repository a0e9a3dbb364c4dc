"""Fig. 1B of the companion study in PNAS: similarity against rank, before and after, and neighbour quality over training.

N images, D dimensions, R ranks.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.data.tables import Rows, blocks
from invp.figures._inputs import FigureInputs
from invp.figures._style import COLOURS, plain, plotting, save
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_table
from invp.plumbing.options import option

NEEDS = ("stage_features",)
UNLABELLED = True
MULTI_LABEL = True


@dataclass
class Config:
    """Training images, each against all others of them."""

    images: int = option(10000, "seeded images, at most", least=2)
    ranks: int = option(5000, "that are drawn, at most", least=1)
    neighbours: int = option(10, "whose quality is measured, fewer than the images", least=1)


def ranked(rows: np.ndarray, labels: np.ndarray | None, ranks: int, neighbours: int) -> tuple[np.ndarray, float | None]:
    """Mean similarities (R) of unit rows (NxD) to all others, most similar first; and the share of the nearest that have the same class."""
    ranks, total, same = min(ranks, len(rows) - 1), np.zeros(0), 0.0
    for start in range(0, len(rows), 500):
        part = np.arange(start, min(start + 500, len(rows)))
        similarities = rows[part] @ rows.T
        similarities[np.arange(len(part)), part] = -np.inf
        order = np.argsort(-similarities, 1, kind="stable")
        found = np.take_along_axis(similarities, order[:, :ranks], 1).sum(0, dtype=np.float64)
        total = found if start == 0 else total + found
        if labels is not None:
            same += (labels[order[:, :neighbours]] == labels[part][:, None]).mean(1).sum()
    return total / len(rows), None if labels is None else float(same / len(rows))


def draw(config: Config, inputs: FigureInputs, out: Path) -> dict:
    """Draws the first and the last stage against rank, and every stage's neighbour quality; returns both."""
    stages = sorted(inputs.stage_features)
    curves, quality, chosen = {}, {}, None
    for stage in stages:
        table = read_table(inputs.stage_features[stage])
        if chosen is None:
            generator = np.random.default_rng(inputs.experiment["seed"])
            chosen = np.sort(generator.permutation(len(table))[: config.images])
            if config.neighbours >= len(chosen):
                raise UserError(f"neighbours is {config.neighbours}, of {len(chosen)} images; valid: at most {len(chosen) - 1}")
        labels = None if table["label"].null_count else table["label"].to_numpy()[chosen]
        parts = blocks(Rows(inputs.stage_features[stage], "embedding"))
        rows = np.concatenate([part[chosen[(chosen >= at.start) & (chosen < at.stop)] - at.start] for at, part in parts])
        curves[stage], quality[stage] = ranked(rows, labels, config.ranks, config.neighbours)
    pyplot = plotting()
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8.2, 3.3), layout="constrained")
    ends = [stages[0], stages[-1]] if len(stages) > 1 else stages
    for stage, colour in zip(ends, ("#7a7a7a", COLOURS[0]), strict=False):
        label = "untrained" if stage == 0 else f"epoch {stage}"
        left.plot(np.arange(1, len(curves[stage]) + 1), curves[stage], color=colour, label=label)
    left.set(xscale="log", xlabel="rank of the other image", ylabel=f"mean similarity, {len(chosen):,} images")
    left.xaxis.set_major_formatter("{x:,.0f}")  # powers of ten would be formulas, which `plotting` takes for a stranger's text
    left.legend(frameon=False, fontsize=8)
    known = [stage for stage in stages if quality[stage] is not None]
    right.plot(known, [quality[stage] for stage in known], "o-", color=COLOURS[0])
    right.set(xlabel="epoch", ylabel=f"neighbour quality, {config.neighbours} nearest")
    plain(left, right)
    save(figure, inputs, out)
    return {
        "images": len(chosen),
        "similarity_by_rank": {str(stage): np.round(curves[stage], 5).tolist() for stage in ends},
        "neighbour_quality": {str(stage): quality[stage] for stage in stages},
    }
