"""Make the page to look at the neighbour graphs of a run with, image by image, and the map of them.

The page is one file that needs no other and no network. In `invp/pages/templates`, `explorer.html` is its frame, `explorer.css` its
style and `explorer.js` with the modules that it imports what it does; this step puts them together with the images and the graphs of
all stages.

N images of the data set, S of them shown, K neighbours. An image has a number, its `index` in the data set (0 to N-1), and, if it is
shown, a place among those shown (0 to S-1). The page speaks of places, because its arrays are as long as what it shows. Of a large set
some of those shown are only there as neighbours of others: the page opens none of which a neighbour is missing, so that every list and
every share is of the whole graph.
"""

import base64
import hashlib
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
from jinja2.utils import htmlsafe_json_dumps
from markupsafe import Markup

from invp.core.graph_measures import class_confusion, class_votes, in_degree, outlier_ranks, overlap
from invp.core.map import map_positions
from invp.data.tables import fixed_size_list, labels_of, matrix
from invp.data.thumbnails import thumbnails, web_picture
from invp.pages.html import render, template
from invp.plumbing.errors import UserError
from invp.plumbing.files import atomic_path, canonical_json, read_json, read_table, write_table
from invp.plumbing.jobs import Job

MOST_SHOWN = 50_000  # of larger data sets a seeded sample is shown, closed over the neighbours of its anchors
NOT_SHOWN = -1  # the place of an image that is not shown
MOST_CONFUSED = 30  # pairs of classes that the page lists
# What the loss takes of the positives and what it leaves, by the objective's option `positives`.
KINDS = {
    "hard": {"chosen": "Hard positives", "left": "Easy positives", "rule": "the least similar"},
    "easy": {"chosen": "Easy positives", "left": "Hard positives", "rule": "the most similar"},
    "knn": {"chosen": "Positives", "left": "Other positives", "rule": "the nearest rows"},
}
OWN_RULE = {"chosen": "Positives", "left": "Other positives", "rule": "by the objective's rule"}
# In the order in which they import each other: the page holds them as one script.
SCRIPTS = (
    "explorer_data.js", "explorer_colours.js", "explorer_elements.js", "explorer_image.js", "explorer_lists.js",
    "explorer_map.js", "explorer_second.js", "explorer.js",
)  # fmt: skip


def section(study: dict, *, experiment: str, seed: int) -> dict:
    """What the page says of the experiment."""
    options = study["loaded"][experiment]
    return {**{key: options[key] for key in ("name", "title", "objective", "graph", "stages")}, "seed": seed}


def run(job: Job) -> None:
    """Writes the page of a run with all its stages, and its map; UserError if a graph is not of the data set's images."""
    options, dataset = job.section, job.input("dataset").parent
    manifest = read_json(dataset / "manifest.json")
    graphs = [Graph(path.parent, manifest["num_samples"]) for path in job.inputs["graph"]]
    shown, opened = sample(graphs, manifest["num_samples"], options["seed"])
    positions = mapped(graphs, shown, options["seed"])
    columns = {f"stage-{stage}": fixed_size_list(each) for stage, each in zip(options["stages"], positions, strict=True)}
    write_table(job.outputs["map"], pa.table({"index": shown, **columns}), job.record)
    labels = labels_of(dataset)
    labels = np.full(manifest["num_samples"], -1) if labels is None else labels
    data = {
        "experiment": options["name"],
        "title": options["title"] or options["name"],
        "seed": options["seed"],
        "images": hashlib.sha256(canonical_json(manifest["shards"]).encode()).hexdigest()[:16],
        "total": manifest["num_samples"],
        "shown": len(shown),
        "walked": int((np.diff(graphs[-1].offsets) > 0).sum()),
        "numbers": packed(shown, "<i4"),
        "opened": packed(opened, "<u1"),
        "labels": packed(labels[shown], "<i4"),
        "classes": manifest["classes"],
        "steps": options["objective"].get("steps", 0),
        "fanout": options["objective"].get("k", 0),
        "kinds": KINDS.get(options["objective"].get("positives"), OWN_RULE),
        "leastSimilarFirst": options["objective"].get("positives") == "hard",
        "stages": [
            {
                "epoch": stage,
                **stage_data(graph, shown, opened),
                "positions": packed(places, "<f4"),
                **of_each(graph, before, labels, len(manifest["classes"]), shown),
            }
            for stage, graph, before, places in zip(options["stages"], graphs, [None, *graphs[:-1]], positions, strict=True)
        ],
    }
    page = render(
        "explorer.html",
        experiment=options["name"],
        title=data["title"],
        seed=options["seed"],
        style=Markup(template("explorer.css")),
        script=Markup(one_script()),
        data=htmlsafe_json_dumps(data),  # and not the filter `tojson`, which would sort the measures by name
        pictures=Markup("\n".join(web_picture(image) for _, image in thumbnails(dataset, shown, side_of(manifest)))),
    )
    with atomic_path(job.outputs["page"]) as temporary:
        temporary.write_text(page, encoding="utf-8")


def one_script() -> str:
    """The page's modules as one script with one scope, without what they import of each other."""
    parts = (re.sub(r"^import [^;]*;\n|^export ", "", template(name), flags=re.MULTILINE) for name in SCRIPTS)
    return '(() => {\n"use strict";\n' + "\n".join(parts) + "})();"


def mapped(graphs: list["Graph"], shown: np.ndarray, seed: int) -> list[np.ndarray]:
    """Where the images shown lie on the map of each stage (Sx2), by the edges among them.

    The first map starts from the principal axes of the rows, and each other one from the map of the stage before.
    """
    found, start = [], graphs[0].positions[shown]
    for graph in graphs:
        start = map_positions(places_of(graph.neighbours[shown], shown, len(graph.positions)), start, seed)
        found.append(start)
    return found


def places_of(numbers: np.ndarray, shown: np.ndarray, total: int) -> np.ndarray:
    """The places of images by their numbers; NOT_SHOWN of those that are not shown, or no image."""
    place_of = np.full(total + 1, NOT_SHOWN, np.int32)
    place_of[shown] = np.arange(len(shown))
    return place_of[numbers]  # the number -1 has the last entry


def side_of(manifest: dict) -> int:
    """The side of a thumbnail in pixels: the image's own, up to 48; of photographs 40."""
    return min(48, manifest["shape"][1]) if manifest["format"] == "uint8" else 40


def of_each(graph: "Graph", before: "Graph | None", labels: np.ndarray, num_classes: int, shown: np.ndarray) -> dict:
    """What is measured of each image shown in the whole graph, and the pairs of classes with the largest shares of edges between them.

    Measures of classes are left out without labels, and what changed since the stage `before` at the first one.
    """
    each = {
        "inDegree": packed(in_degree(graph.neighbours)[shown], "<i4"),
        "outlier": packed(outlier_ranks(graph.similarities)[shown], "<i4"),
    }
    if before is not None:
        each["changed"] = packed(1 - overlap(graph.neighbours, before.neighbours)[shown], "<f4")
    confused = []
    if (labels >= 0).any():
        voted, share, own = class_votes(graph.neighbours, labels, num_classes)
        each |= {
            "voted": packed(voted[shown], "<i4"),
            "voteShare": packed(share[shown], "<f4"),
            "sameClass": packed(own[shown], "<f4"),
        }
    if (labels >= 0).all() and (graph.neighbours >= 0).all():
        shares = class_confusion(graph.neighbours, labels, num_classes)
        np.fill_diagonal(shares, 0)
        largest = np.argsort(-shares, axis=None, kind="stable")[:MOST_CONFUSED]
        pairs = np.stack(np.unravel_index(largest, shares.shape), 1).tolist()
        confused = [[one, other, round(float(shares[one, other]), 5)] for one, other in pairs if shares[one, other] > 0]
    return {"each": each, "confused": confused}


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


def stage_data(graph: Graph, shown: np.ndarray, opened: np.ndarray) -> dict:
    """The graph of one stage among the images shown, by their places; neighbours and walks are of those opened."""
    total = len(graph.positions)
    neighbours = np.where(opened[:, None], places_of(graph.neighbours[shown], shown, total), NOT_SHOWN)
    walks = [graph.walk(number) if opens else [] for number, opens in zip(shown, opened, strict=True)]
    kept = np.concatenate(walks).astype(np.int64)
    return {
        "k": neighbours.shape[1],
        "neighbours": packed(neighbours, "<i4"),
        "similarities": packed(graph.similarities[shown], "<f4"),
        # Those of the image at place i are the entries `offsets[i]` up to, and without, `offsets[i + 1]`.
        "walks": {
            "offsets": packed(np.cumsum([0, *map(len, walks)]), "<i4"),
            "positives": packed(places_of(graph.pairs["positive"][kept], shown, total), "<i4"),
            "distances": packed(graph.pairs["distance"][kept], "<i1"),
            "similarities": packed(graph.pairs["similarity"][kept], "<f4"),
            "chosen": packed(graph.pairs["chosen"][kept], "<u1"),
        },
        "measures": graph.measures,
    }
