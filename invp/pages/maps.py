"""What the first screen shows of the graphs: maps of the images before and after training, and two walks. N images, k neighbours."""

import functools
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from invp.data.tables import labels_of, matrix
from invp.data.thumbnails import thumbnails
from invp.pages.numbers import RUN, Numbers
from invp.pages.plots import COLOURS, data_uri
from invp.pages.words import titles
from invp.plumbing.files import read_json, read_table

MOST_POINTS = 2000  # of a larger set, a seeded sample
MOST_CLASSES = 20  # of more classes, as many as there are colours, drawn by the seed
WIDTH, HEIGHT, MARGIN = 360, 300, 12  # of a map, in its own units
LETTERS = 12  # of a class's name on a map
NEIGHBOURS, OTHERS, CHOSEN = 4, 3, 4  # images of a walk
SIDE = 64  # pixels of a photograph in a walk, at most


@dataclass
class Cloud:
    """The points of one class on a map: an SVG path of dots, and its name (short) where one of its images lies."""

    name: str
    colour: int
    path: str
    x: float
    y: float


@dataclass
class Map:
    """A map of images: what it is of, what its graph says of it, and what is seen."""

    title: str
    caption: str
    seen: str
    clouds: list[Cloud]


@dataclass
class Tile:
    """An image of a walk as a data URI, with a caption; `same` is whether it is of the anchor's class, None if nobody knows."""

    picture: str
    caption: str
    seen: str
    same: bool | None = None


@dataclass
class Walk:
    """An anchor, what is told of its positives, and groups of images with their headings."""

    anchor: Tile
    words: str
    groups: list[tuple[str, list[Tile]]]


def drawn(labels: np.ndarray | None, total: int, seed: int) -> tuple[np.ndarray, int]:
    """The numbers of the images that a map shows, ascending, and of how many classes they are (0 without labels)."""
    generator = np.random.default_rng(seed)
    order = generator.permutation(total)
    if labels is None:
        return np.sort(order[:MOST_POINTS]), 0
    present = np.unique(labels)
    if len(present) > MOST_CLASSES:
        present = generator.permutation(present)[: len(COLOURS)]
        order = order[np.isin(labels[order], present)]
    return np.sort(order[:MOST_POINTS]), len(present)


def placed(positions: np.ndarray) -> np.ndarray:
    """Positions (Nx2) moved and enlarged, both axes alike, to fill a map."""
    low, high = positions.min(0), positions.max(0)
    scale = float(((np.array([WIDTH, HEIGHT]) - 2 * MARGIN) / np.maximum(high - low, 1e-9)).min())
    return (positions - (low + high) / 2) * [scale, -scale] + np.array([WIDTH, HEIGHT]) / 2


def clouds(points: np.ndarray, labels: np.ndarray | None, classes: list[str]) -> list[Cloud]:
    """The points of each class, in the order of the classes; of images without labels one cloud without a name."""
    found = []
    for number, label in enumerate([None] if labels is None else np.unique(labels)):
        own = points if labels is None else points[labels == label]
        middle = own[np.abs(own - np.median(own, 0)).sum(1).argmin()]
        path = "".join(f"M{x:.0f} {y:.0f}h0" for x, y in own)
        name = "" if label is None else classes[label]
        name = name if len(name) <= LETTERS else f"{name[: LETTERS - 1]}…"
        found.append(Cloud(name, 1 + number % len(COLOURS), path, round(float(middle[0]), 1), round(float(middle[1]), 1)))
    return found


def places(path: Path, stage: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of the images on the map of a stage, ascending, and their positions (Nx2), of the explorer's map.arrow."""
    table = read_table(path)
    return table["index"].to_numpy(), matrix(table, f"stage-{stage}")


def maps(section: dict, inputs: dict[str, list[Path]], numbers: Numbers) -> list[Map]:
    """A map of each of the section's `pictured` graphs, before and after training, of the same images; [] without any.

    Positions are those of the input `maps`; images and their classes are those of the input `images`.
    """
    placed_on = [places(path, stage) for path, (_, stage) in zip(inputs.get("maps", []), section["pictured"], strict=True)]
    if not placed_on:
        return []
    (manifest,) = inputs["images"]
    labels, classes, total = labels_of(manifest.parent), read_json(manifest)["classes"], read_json(manifest)["num_samples"]
    on_all = functools.reduce(np.intersect1d, [images for images, _ in placed_on])
    own, found = None if labels is None else labels[on_all], []
    chosen, num_classes = drawn(own, len(on_all), section["seeds"][0])
    images = on_all[chosen]
    for (name, stage), (numbered, positions) in zip(section["pictured"], placed_on, strict=True):
        points = placed(positions[np.searchsorted(numbered, images)])
        share = numbers.values(name, stage, "graph.same_class_share")
        caption = f"{100 * share[0]:.0f} of 100 edges join images of one class" if share else ""
        seen = f"{len(images):,} of {total:,} training images, a point each"
        if labels is not None:
            seen += f", of {num_classes} classes" + ("" if num_classes == len(np.unique(labels)) else " drawn by the seed")
        seen += f". {caption}." if caption else "."
        title = f"{titles(section)[name]}, {'before training' if stage == 0 else f'epoch {stage}'}"
        found.append(Map(title, caption, seen, clouds(points, None if labels is None else labels[images], classes)))
    return found


class Graph:
    """A stage's graph with the walks of its anchors, from the inputs `walks` (knn.arrow, positives.arrow) and `images`."""

    def __init__(self, inputs: dict[str, list[Path]]):
        knn, positives = inputs["walks"]
        (manifest,) = inputs["images"]
        self.dataset, self.shape = manifest.parent, read_json(manifest)["shape"]
        self.labels, self.classes = labels_of(self.dataset), read_json(manifest)["classes"]
        table = read_table(knn)
        self.neighbours, self.similarities = matrix(table, "neighbours"), matrix(table, "similarities")
        walked = read_table(positives)
        self.pairs = {name: walked[name].to_numpy(zero_copy_only=False) for name in walked.column_names}

    def same(self, anchor: int, number: int) -> bool | None:
        """Whether two images are of one class; None without labels."""
        return None if self.labels is None else bool(self.labels[anchor] == self.labels[number])

    def taken(self, anchor: int) -> np.ndarray:
        """The rows of the pairs of an anchor that the loss takes."""
        return np.flatnonzero((self.pairs["anchor"] == anchor) & self.pairs["chosen"])

    def right(self, anchor: int) -> int:
        """How many of the positives that the loss takes are of the anchor's class."""
        return sum(bool(self.same(anchor, number)) for number in self.pairs["positive"][self.taken(anchor)])


def two_anchors(graph: Graph, seed: int) -> list[int]:
    """In a seeded order, the first anchor whose taken positives are all of its class, and the first with another; the first two where
    there are no labels, no positives, or anchors of one kind alone."""
    present = np.unique(graph.pairs["anchor"])
    order = np.random.default_rng(seed).permutation(present if len(present) else len(graph.neighbours)).tolist()
    if graph.labels is None or not len(present):
        return order[:2]
    whole = next((anchor for anchor in order if len(graph.taken(anchor)) and graph.right(anchor) == len(graph.taken(anchor))), None)
    mixed = next((anchor for anchor in order if graph.right(anchor) < len(graph.taken(anchor))), None)
    return order[:2] if whole is None or mixed is None else [whole, mixed]


def groups_of(graph: Graph, anchor: int, kind: str) -> list[tuple[str, list[tuple[int, float]]]]:
    """Headings with images and similarities: the nearest neighbours, the positives that the loss leaves, and those that it takes.

    `kind` is the objective's option `positives`. Of hard positives those taken are the least similar, of others the most similar ones.
    """
    near = [(int(n), float(s)) for n, s in zip(graph.neighbours[anchor], graph.similarities[anchor], strict=True) if n >= 0]
    result = [("nearest neighbours", near[:NEIGHBOURS])]
    own = np.flatnonzero(graph.pairs["anchor"] == anchor)
    own = own[np.argsort(-graph.pairs["similarity"][own], kind="stable")]
    pairs = [(int(graph.pairs["positive"][i]), float(graph.pairs["similarity"][i]), bool(graph.pairs["chosen"][i])) for i in own]
    left = [(number, similarity) for number, similarity, chosen in pairs if not chosen]
    took = [(number, similarity) for number, similarity, chosen in pairs if chosen]
    hard = kind == "hard"
    result.append((f"{'easy ' if hard else ''}positives that the loss leaves", left[:OTHERS]))
    result.append((f"{'hard ' if hard else ''}positives that the loss takes", took[-CHOSEN:] if hard else took[:CHOSEN]))
    return [(heading, images) for heading, images in result if images]


def pictures_of(graph: Graph, numbers: set[int]) -> dict[int, str]:
    """Small images by number, as data URIs: pixels as they are, photographs as WebP."""
    result = {}
    for number, image in thumbnails(graph.dataset, np.array(sorted(numbers)), min(SIDE, graph.shape[1]) if graph.shape else SIDE):
        content = io.BytesIO()
        kind, options = ("PNG", {"optimize": True}) if graph.shape else ("WEBP", {"quality": 80})
        image = image.convert("L") if graph.shape and graph.shape[0] == 1 else image
        image.save(content, kind, **options)
        result[number] = data_uri(content.getvalue(), f"image/{kind.lower()}")
    return result


def walks(section: dict, inputs: dict[str, list[Path]]) -> list[Walk]:
    """Two anchors of the input `walks`, drawn by the seed, with their neighbours and positives; [] without a graph."""
    if not inputs.get("walks"):
        return []
    graph, (run, _) = Graph(inputs), (RUN.fullmatch(path.as_posix()) for path in inputs["walks"])
    kind = section["loaded"][run["experiment"]]["objective_options"].get("positives", "")
    anchors = two_anchors(graph, section["seeds"][0])
    groups = {anchor: groups_of(graph, anchor, kind) for anchor in anchors}
    wanted = {number for own in groups.values() for _, images in own for number, _ in images} | set(anchors)
    pictures = pictures_of(graph, wanted)

    def class_of(number: int) -> str:
        return "" if graph.labels is None else graph.classes[graph.labels[number]]

    def tile(anchor: int, number: int, similarity: float) -> Tile:
        same, name = graph.same(anchor, number), class_of(number)
        mark = "" if same is None else "✓ " if same else "✗ "
        words = "" if same is None else f" of class {name}, {'the same' if same else 'another'} class,"
        return Tile(pictures[number], f"{mark}{similarity:.2f}", f"image {number}{words} similarity {similarity:.2f}", same)

    found = []
    for anchor, own in groups.items():
        name, taken = class_of(anchor), len(graph.taken(anchor))
        known = taken and graph.labels is not None
        words = f"{graph.right(anchor)} of the {taken} positives that the loss takes are of the anchor's class" if known else ""
        first = Tile(
            pictures[anchor], f"anchor: {name}" if name else "anchor", f"the anchor, image {anchor}{name and f' of class {name}'}"
        )
        found.append(Walk(first, words, [(heading, [tile(anchor, *each) for each in images]) for heading, images in own]))
    return found


def walks_note(inputs: dict[str, list[Path]]) -> str:
    """How the anchors were drawn, and how many of all have only positives of their class; '' without labels or positives."""
    if not inputs.get("walks"):
        return ""
    graph = Graph(inputs)
    if graph.labels is None or not graph.pairs["chosen"].any():
        return "Anchors drawn by the seed."
    anchors, chosen = graph.pairs["anchor"][graph.pairs["chosen"]], graph.pairs["positive"][graph.pairs["chosen"]]
    wrong = np.unique(anchors[graph.labels[anchors] != graph.labels[chosen]])
    total = len(np.unique(anchors))
    shown = "the first such anchor and the first with one of another class" if 0 < len(wrong) < total else "the first two"
    return (
        f"Of {total:,} anchors {total - len(wrong):,} have only positives of their class among those that the loss takes. Shown are, in an "
        f"order drawn by the seed, {shown}."
    )
