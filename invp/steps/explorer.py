"""Make the page to look at the neighbour graphs of a run with, image by image.

N images shown, K neighbours.
"""

import base64
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from invp.data.tables import labels_of, matrix
from invp.pages.html import template
from invp.plumbing.errors import UserError
from invp.plumbing.files import atomic_path, read_json, read_table
from invp.plumbing.jobs import Job

MOST = 10_000  # images in a page; of larger sets a seeded sample is shown


def section(study: dict, *, experiment: str, seed: int) -> dict:
    """What the page says of the experiment."""
    options = study["loaded"][experiment]
    return {**{key: options[key] for key in ("name", "title", "objective", "graph", "stages")}, "seed": seed}


def packed(values: np.ndarray, kind: str) -> str:
    """Numbers as base64 of little-endian bytes, for a typed array of the page."""
    return base64.b64encode(np.ascontiguousarray(values, kind).tobytes()).decode()


def thumbnail(content: bytes | np.ndarray, side: int) -> Image.Image:
    """One image at side x side pixels, in colour."""
    if isinstance(content, bytes):
        image = Image.open(io.BytesIO(content)).convert("RGB")
        short = min(image.size)
        left, top = (image.width - short) // 2, (image.height - short) // 2
        return image.crop((left, top, left + short, top + short)).resize((side, side), Image.Resampling.LANCZOS)
    array = content.transpose(1, 2, 0)
    return (
        Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
        .convert("RGB")
        .resize((side, side), Image.Resampling.NEAREST)
    )


def sprite(dataset: Path, shown: np.ndarray) -> tuple[str, int, int]:
    """The shown images in one PNG (base64), with the side of each in pixels and the number in a row."""
    manifest = read_json(dataset / "manifest.json")
    side = min(48, manifest["shape"][1]) if manifest["format"] == "uint8" else 40
    columns = max(1, min(len(shown), 8192 // side, 100))
    sheet = Image.new("RGB", (columns * side, -(-len(shown) // columns) * side))
    place_of = {int(number): place for place, number in enumerate(shown)}
    start = 0
    for shard in manifest["shards"]:
        table = read_table(dataset / shard["file"])
        for number in range(start, start + len(table)):
            if number not in place_of:
                continue
            content = table["image"][number - start].as_py()
            if manifest["format"] == "uint8":
                content = np.frombuffer(content, np.uint8).reshape(manifest["shape"])
            place = place_of[number]
            sheet.paste(thumbnail(content, side), (place % columns * side, place // columns * side))
        start += len(table)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode(), side, columns


def stage_data(folder: Path, shown: np.ndarray, total: int) -> dict:
    """The graph of one stage among the shown images; -1 stands for a neighbour that is not shown."""
    table = read_table(folder / "knn.arrow")
    if len(table) != total:
        raise UserError(f"{folder} has {len(table)} nodes, and the data set {total} images")
    place = np.full(total, -1, np.int32)
    place[shown] = np.arange(len(shown))
    positions = matrix(table, "position")[shown]
    span = np.abs(positions).max() or 1.0
    pairs = read_table(folder / "positives.arrow")
    anchor, positive = (place[pairs[name].to_numpy()] for name in ("anchor", "positive"))
    both = (anchor >= 0) & (positive >= 0)
    order = np.flatnonzero(both)
    order = order[np.argsort(anchor[order], kind="stable")]
    offsets = np.searchsorted(anchor[order], np.arange(len(shown) + 1))
    return {
        "neighbours": packed(place[matrix(table, "neighbours")[shown]], "<i4"),
        "similarities": packed(matrix(table, "similarities")[shown], "<f4"),
        "positions": packed(positions / span, "<f4"),
        "positives": {
            "offsets": packed(offsets, "<i4"),
            "index": packed(positive[order], "<i4"),
            "distance": packed(pairs["distance"].to_numpy()[order], "<i1"),
            "similarity": packed(pairs["similarity"].to_numpy()[order], "<f4"),
            "hard": packed(pairs["hard"].to_numpy(zero_copy_only=False)[order], "<u1"),
        },
        "k": matrix(table, "neighbours").shape[1],
        "measures": read_json(folder / "summary.json")["measures"],
    }


def run(job: Job) -> None:
    """Writes the page of a run with all its stages."""
    section, seed, stages = job.section, job.section["seed"], job.section["stages"]
    graphs, dataset = [path.parent for path in job.inputs["graph"]], job.input("dataset").parent
    manifest = read_json(dataset / "manifest.json")
    total = manifest["num_samples"]
    shown = np.arange(total)
    if total > MOST:
        shown = np.sort(np.random.default_rng(seed).choice(total, MOST, replace=False))
    labels = labels_of(dataset)
    image, side, columns = sprite(dataset, shown)
    data = {
        "title": section["title"] or section["name"],
        "experiment": section["name"],
        "seed": seed,
        "total": total,
        "shown": len(shown),
        "numbers": packed(shown, "<i4"),
        "labels": packed(labels[shown] if labels is not None else np.full(len(shown), -1), "<i4"),
        "classes": manifest["classes"],
        "side": side,
        "columns": columns,
        "steps": section["objective"].get("steps", 0),
        "walk": section["objective"].get("k", 0),
        "stages": [{"stage": stage, **stage_data(folder, shown, total)} for stage, folder in zip(stages, graphs, strict=True)],
    }
    page = template("explorer.html")
    text = json.dumps(data, ensure_ascii=False).replace("</", "<\\/")
    page = page.replace("__TITLE__", f"{section['name']}, seed {seed}").replace("__SPRITE__", image).replace("__DATA__", text)
    with atomic_path(job.outputs["page"]) as temporary:
        temporary.write_text(page, encoding="utf-8")
