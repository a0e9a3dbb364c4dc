"""Write the graph of a stage with its images and its map for a viewer of other people."""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
from PIL import Image

from invp.core.graph_measures import class_votes, in_degree, outlier_ranks
from invp.data.tables import labels_of, matrix
from invp.plumbing.errors import UserError
from invp.plumbing.files import atomic_path, read_json, read_table
from invp.tools.inspect_graph import dataset_of

FORMATS = ("atlas",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("result", type=Path, help="a folder graph/stage-S of a run")
    parser.add_argument("--to", required=True, choices=FORMATS, help="atlas: the Parquet that embedding-atlas reads")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--data", type=Path, help="the prepared split (default: the one that the graph's record names)")


def image_files(dataset: Path, numbers: np.ndarray) -> Iterator[bytes]:
    """The images of these numbers, ascending, as files: photographs as they were prepared, pixels as PNG."""
    manifest, start = read_json(dataset / "manifest.json"), 0
    for shard in manifest["shards"]:
        images = read_table(dataset / shard["file"])["image"]
        for number in numbers[(start <= numbers) & (numbers < start + len(images))].tolist():
            content = images[number - start].as_py()
            if manifest["shape"] is not None:
                pixels = np.frombuffer(content, np.uint8).reshape(manifest["shape"]).transpose(1, 2, 0)
                file = io.BytesIO()
                Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(file, "PNG")
                content = file.getvalue()
            yield content
        start += len(images)


def near_columns(neighbours: np.ndarray, similarities: np.ndarray, shown: np.ndarray) -> list[dict]:
    """For each row, the rows of its neighbours and their distances, 1 less the cosine similarity; neighbours without a row are left out."""
    row_of = np.full(len(neighbours) + 1, -1)
    row_of[shown] = np.arange(len(shown))
    rows = row_of[neighbours[shown]]
    distances = 1 - similarities[shown].astype(np.float64)
    return [
        {"ids": ids[ids >= 0].tolist(), "distances": near[ids >= 0].tolist()} for ids, near in zip(rows, distances, strict=True)
    ]


def atlas(result: Path, dataset: Path) -> pa.Table:
    """A row for each image on the map: index, x and y, the image's file, its class, its measures, and its neighbours by row."""
    graph, places = read_table(result / "knn.arrow"), read_table(result.parents[1] / "map.arrow")
    neighbours, similarities = matrix(graph, "neighbours"), matrix(graph, "similarities")
    if result.name not in places.column_names:
        raise UserError(f"{result.parents[1] / 'map.arrow'} has no map of {result.name}: run the workflow again")
    manifest, labels = read_json(dataset / "manifest.json"), labels_of(dataset)
    if manifest["num_samples"] != len(neighbours):
        raise UserError(f"{result} has {len(neighbours)} nodes, and {dataset} {manifest['num_samples']} images")
    shown, position = places["index"].to_numpy(), matrix(places, result.name)
    columns = {
        "index": shown,
        "x": position[:, 0],
        "y": position[:, 1],
        "image": [{"bytes": content, "path": None} for content in image_files(dataset, shown)],
        "neighbors": near_columns(neighbours, similarities, shown),
        "in_degree": in_degree(neighbours)[shown],
        "outlier_rank": outlier_ranks(similarities)[shown],
    }
    if labels is not None:
        columns["class"] = [manifest["classes"][label] for label in labels[shown]]
        columns["same_class_share"] = class_votes(neighbours, labels, len(manifest["classes"]))[2][shown]
    kinds = {
        "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        "neighbors": pa.struct({"ids": pa.list_(pa.int64()), "distances": pa.list_(pa.float64())}),
    }
    return pa.table({name: pa.array(values, kinds.get(name)) for name, values in columns.items()})


def run(arguments: argparse.Namespace) -> None:
    """Writes the file and prints how to look at it."""
    result = arguments.result.absolute()
    table = atlas(result, arguments.data or dataset_of(result))
    with atomic_path(arguments.out) as temporary:
        parquet.write_table(table, temporary)
    print(f"{arguments.out}: {len(table):,} images")
    print(f"embedding-atlas {arguments.out} --x x --y y --neighbors neighbors --image image")
