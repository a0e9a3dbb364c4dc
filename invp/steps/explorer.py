"""Make the page to look at the neighbour graphs of a run with, image by image.

The page is one file that needs no other and no network. In `invp/pages/templates`, `explorer.html` is its frame, `explorer.css` its
style and `explorer.js` what it does; this step puts them together with the images and the graphs of all stages.

N images of the data set, S of them shown, K neighbours. An image has a number, its `index` in the data set (0 to N-1), and, if it is
shown, a place among those shown (0 to S-1). The page speaks of places, because its arrays are as long as what it shows. Of a large set
some of those shown are only there as neighbours of others: the page opens none of which a neighbour is missing, so that every list and
every share is of the whole graph.
"""

import base64
import io
import math
from pathlib import Path

import numpy as np
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup
from PIL import Image

from invp.data.tables import labels_of, matrix
from invp.data.thumbnails import thumbnails
from invp.pages.html import render, template
from invp.plumbing.errors import UserError
from invp.plumbing.files import atomic_path, read_json, read_table
from invp.plumbing.jobs import Job

MOST_SHOWN = 10_000  # of larger data sets a seeded sample is shown, closed over the neighbours of its anchors
NOT_SHOWN = -1  # the place of an image that is not shown
# What the loss takes of the positives and what it leaves, by the objective's option `positives`.
KINDS = {
    "hard": {"chosen": "Hard positives", "left": "Easy positives", "rule": "the least similar"},
    "easy": {"chosen": "Easy positives", "left": "Hard positives", "rule": "the most similar"},
    "knn": {"chosen": "Positives", "left": "Other positives", "rule": "the nearest rows"},
}
OWN_RULE = {"chosen": "Positives", "left": "Other positives", "rule": "by the objective's rule"}


def section(study: dict, *, experiment: str, seed: int) -> dict:
    """What the page says of the experiment."""
    options = study["loaded"][experiment]
    return {**{key: options[key] for key in ("name", "title", "objective", "graph", "stages")}, "seed": seed}


def run(job: Job) -> None:
    """Writes the page of a run with all its stages; UserError if a graph is not of the data set's images."""
    options, dataset = job.section, job.input("dataset").parent
    manifest = read_json(dataset / "manifest.json")
    graphs = [Graph(path.parent, manifest["num_samples"]) for path in job.inputs["graph"]]
    shown, opened = sample(graphs, manifest["num_samples"], options["seed"])
    sprite, columns = sprite_of(dataset, manifest, shown)
    labels = labels_of(dataset)
    data = {
        "total": manifest["num_samples"],
        "shown": len(shown),
        "walked": int((np.diff(graphs[-1].offsets) > 0).sum()),
        "numbers": packed(shown, "<i4"),
        "opened": packed(opened, "<u1"),
        "labels": packed(labels[shown] if labels is not None else np.full(len(shown), -1), "<i4"),
        "classes": manifest["classes"],
        "columns": columns,
        "steps": options["objective"].get("steps", 0),
        "kinds": KINDS.get(options["objective"].get("positives"), OWN_RULE),
        "leastSimilarFirst": options["objective"].get("positives") == "hard",
        "stages": [
            {"epoch": stage, **stage_data(graph, shown, opened)} for stage, graph in zip(options["stages"], graphs, strict=True)
        ],
    }
    page = render(
        "explorer.html",
        experiment=options["name"],
        title=options["title"] or options["name"],
        seed=options["seed"],
        style=Markup(template("explorer.css")),
        script=Markup(template("explorer.js")),
        data=htmlsafe_json_dumps(data),  # and not the filter `tojson`, which would sort the measures by name
        sprite=sprite,
        columns=columns,
        rows=math.ceil(len(shown) / columns),
    )
    with atomic_path(job.outputs["page"]) as temporary:
        temporary.write_text(page, encoding="utf-8")


class Graph:
    """The graph of one stage, in the folder of its knn.arrow; UserError if it is not of `total` images.

    `neighbours` NxK and `similarities` NxK, `positions` Nx2. Of the walks `pairs` has the columns, and `order` the rows of the table by
    anchor: those of image i are `order[offsets[i]:offsets[i + 1]]`.
    """

    def __init__(self, folder: Path, total: int):
        table, walked = read_table(folder / "knn.arrow"), read_table(folder / "positives.arrow")
        if len(table) != total:
            raise UserError(f"{folder} has {len(table)} nodes, and the data set {total} images")
        self.neighbours, self.similarities = matrix(table, "neighbours"), matrix(table, "similarities")
        self.positions = matrix(table, "position")
        self.pairs = {name: walked[name].to_numpy(zero_copy_only=False) for name in walked.column_names}
        self.order = np.argsort(self.pairs["anchor"], kind="stable")
        self.offsets = np.searchsorted(self.pairs["anchor"][self.order], np.arange(total + 1))
        self.measures = read_json(folder / "summary.json")["measures"]

    def walk(self, number: int) -> np.ndarray:
        """The rows of the table of walks that are of the image."""
        return self.order[self.offsets[number] : self.offsets[number + 1]]


def around(graphs: list[Graph], number: int) -> np.ndarray:
    """The numbers of the image's neighbours and positives of all stages, and its own; some come more than once."""
    found = [[number]]
    for graph in graphs:
        found += [graph.neighbours[number], graph.pairs["positive"][graph.walk(number)]]
    numbers = np.concatenate(found)
    return numbers[numbers >= 0]  # an approximate search may have found fewer neighbours


def sample(graphs: list[Graph], total: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the images that the page shows, ascending, and which of them it opens, as bool.

    All of `total`; or, if they are more than MOST_SHOWN, seeded anchors, each with all its neighbours and positives of all stages, as many
    as fit. It opens those of which no neighbour and no positive is missing. Anchors whose positives were kept come first.
    """
    if total <= MOST_SHOWN:
        return np.arange(total), np.ones(total, bool)
    order = np.random.default_rng(seed).permutation(total)
    has_walk = np.diff(graphs[-1].offsets)[order] > 0
    shown = np.zeros(total, bool)
    for number in np.concatenate([order[has_walk], order[~has_walk]]):
        more = np.unique(around(graphs, number))
        if shown.any() and shown.sum() + (~shown[more]).sum() > MOST_SHOWN:
            break
        shown[more] = True
    numbers = np.flatnonzero(shown)
    return numbers, np.array([shown[around(graphs, number)].all() for number in numbers])


def packed(values: np.ndarray, kind: str) -> str:
    """Numbers as base64 of their bytes, of which the page makes a typed array; `kind` is a little-endian NumPy type, as "<i4"."""
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def sprite_of(dataset: Path, manifest: dict, shown: np.ndarray) -> tuple[str, int]:
    """The images shown as squares of one PNG (base64), in the order of their places row by row, and the number of squares in a row."""
    side = min(48, manifest["shape"][1]) if manifest["format"] == "uint8" else 40
    columns = max(1, min(len(shown), 8192 // side, 100))
    sprite = Image.new("RGB", (columns * side, math.ceil(len(shown) / columns) * side))
    for place, (_, image) in enumerate(thumbnails(dataset, shown, side)):
        row, column = divmod(place, columns)
        sprite.paste(image, (column * side, row * side))
    content = io.BytesIO()
    sprite.save(content, "PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode(), columns


def stage_data(graph: Graph, shown: np.ndarray, opened: np.ndarray) -> dict:
    """The graph of one stage among the images shown, by their places; neighbours and walks are of those opened."""
    place_of = np.full(len(graph.positions), NOT_SHOWN, np.int32)  # number -> place
    place_of[shown] = np.arange(len(shown))
    numbers = graph.neighbours[shown]
    neighbours = np.where(opened[:, None] & (numbers >= 0), place_of[numbers], NOT_SHOWN)
    positions = graph.positions[shown]
    walks = [graph.walk(number) if opens else [] for number, opens in zip(shown, opened, strict=True)]
    kept = np.concatenate(walks).astype(np.int64)
    return {
        "k": neighbours.shape[1],
        "neighbours": packed(neighbours, "<i4"),
        "similarities": packed(graph.similarities[shown], "<f4"),
        "positions": packed(positions / (np.abs(positions).max() or 1.0), "<f4"),
        # Those of the image at place i are the entries `offsets[i]` up to, and without, `offsets[i + 1]`.
        "walks": {
            "offsets": packed(np.cumsum([0, *map(len, walks)]), "<i4"),
            "positives": packed(place_of[graph.pairs["positive"][kept]], "<i4"),
            "distances": packed(graph.pairs["distance"][kept], "<i1"),
            "similarities": packed(graph.pairs["similarity"][kept], "<f4"),
            "chosen": packed(graph.pairs["chosen"][kept], "<u1"),
        },
        "measures": graph.measures,
    }
