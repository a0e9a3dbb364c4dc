"""Make the page to look at the neighbour graphs of a run with, image by image.

The page is one file that needs no other and no network. In `invp/pages/templates`, `explorer.html` is its frame, `explorer.css` its
style and `explorer.js` what it does; this step puts them together with the images and the graphs of all stages.

N images of the data set, S of them shown, K neighbours. An image has a number, its `index` in the data set (0 to N-1), and, if it is
shown, a place among those shown (0 to S-1). The page speaks of places, because its arrays are as long as what it shows.
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

MOST_SHOWN = 10_000  # of larger data sets a seeded sample is shown
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
    shown = numbers_shown(manifest["num_samples"], options["seed"])
    sprite, columns = sprite_of(dataset, manifest, shown)
    labels = labels_of(dataset)
    data = {
        "total": manifest["num_samples"],
        "shown": len(shown),
        "numbers": packed(shown, "<i4"),
        "labels": packed(labels[shown] if labels is not None else np.full(len(shown), -1), "<i4"),
        "classes": manifest["classes"],
        "columns": columns,
        "steps": options["objective"].get("steps", 0),
        "kinds": KINDS.get(options["objective"].get("positives"), OWN_RULE),
        "leastSimilarFirst": options["objective"].get("positives") == "hard",
        "stages": [
            {"epoch": stage, **stage_data(graph.parent, shown, manifest["num_samples"])}
            for stage, graph in zip(options["stages"], job.inputs["graph"], strict=True)
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


def numbers_shown(total: int, seed: int) -> np.ndarray:
    """The numbers of the images that the page shows, ascending: all of `total`, or a sample of MOST_SHOWN."""
    if total <= MOST_SHOWN:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, MOST_SHOWN, replace=False))


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


def stage_data(folder: Path, shown: np.ndarray, total: int) -> dict:
    """The graph of one stage (the folder of its knn.arrow) among the images shown, by their places."""
    table = read_table(folder / "knn.arrow")
    if len(table) != total:
        raise UserError(f"{folder} has {len(table)} nodes, and the data set {total} images")
    place_of = np.full(total, NOT_SHOWN, np.int32)  # number -> place
    place_of[shown] = np.arange(len(shown))
    neighbours = matrix(table, "neighbours")[shown]
    positions = matrix(table, "position")[shown]
    return {
        "k": neighbours.shape[1],
        "neighbours": packed(place_of[neighbours], "<i4"),
        "similarities": packed(matrix(table, "similarities")[shown], "<f4"),
        "positions": packed(positions / (np.abs(positions).max() or 1.0), "<f4"),
        "walks": walks(folder / "positives.arrow", place_of, len(shown)),
        "measures": read_json(folder / "summary.json")["measures"],
    }


def walks(path: Path, place_of: np.ndarray, num_shown: int) -> dict:
    """The positives that the walks from each image found, of pairs both of which are shown.

    Those of the image at place i are the entries `offsets[i]` up to, and without, `offsets[i + 1]`.
    """
    pairs = read_table(path)
    anchors, positives = (place_of[pairs[name].to_numpy()] for name in ("anchor", "positive"))
    kept = np.flatnonzero((anchors != NOT_SHOWN) & (positives != NOT_SHOWN))
    kept = kept[np.argsort(anchors[kept], kind="stable")]
    return {
        "offsets": packed(np.searchsorted(anchors[kept], np.arange(num_shown + 1)), "<i4"),
        "positives": packed(positives[kept], "<i4"),
        "distances": packed(pairs["distance"].to_numpy()[kept], "<i1"),
        "similarities": packed(pairs["similarity"].to_numpy()[kept], "<f4"),
        "chosen": packed(pairs["chosen"].to_numpy(zero_copy_only=False)[kept], "<u1"),
    }
