"""Look at the neighbour graph of one stage: neighbours, walks, paths, hubs and confusions, and contact sheets of them."""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from invp.core.graph_measures import adjacency, in_degree
from invp.data.tables import labels_of, matrix
from invp.data.thumbnails import thumbnails
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json, read_table, table_record
from invp.plumbing.records import checked_record


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("result", type=Path, help="a folder graph/stage-S of a run")
    parser.add_argument("--anchor", type=int, metavar="I", help="neighbours and positives of an image")
    parser.add_argument("--path", type=int, nargs=2, metavar=("A", "B"), help="a shortest path between two images")
    parser.add_argument("--compare", type=Path, metavar="OTHER", help="another stage's folder: whose neighbours changed most")
    parser.add_argument("--hubs", action="store_true", help="the images that are neighbours most often")
    parser.add_argument("--confused", nargs=2, metavar=("CLASS", "CLASS"), help="edges from the first class to the second")
    parser.add_argument("--data", type=Path, help="the prepared split (default: the one that the graph's record names)")
    parser.add_argument("--sheet", type=Path, help="write the images of the answer as a PNG contact sheet")
    parser.add_argument("--most", type=int, default=10, help="rows to print (default: 10)")


def dataset_of(result: Path) -> Path:
    """The prepared split that the graph was made of, by its record."""
    path = result / "record.json"
    record = checked_record(path)
    if "dataset" not in record["inputs"]:
        raise UserError(f"{path} is not of a graph; give a folder graph/stage-S of a run")
    return Path(record["inputs"]["dataset"]["path"]).parent


def shortest_path(neighbours: np.ndarray, start: int, end: int) -> list[int]:
    """The numbers along a shortest directed path by number of steps; empty if there is none."""
    from scipy.sparse.csgraph import breadth_first_order

    _, before = breadth_first_order(adjacency(neighbours), start, directed=True, return_predecessors=True)
    path = [end]
    while path[-1] != start:
        previous = int(before[path[-1]])
        if previous < 0:
            return []
        path.append(previous)
    return path[::-1]


def images_of(dataset: Path, numbers: list[int], side: int = 64) -> list[Image.Image]:
    """The images of these numbers as squares, in the same order."""
    found = dict(thumbnails(dataset, np.array(numbers), side))
    return [found[number] for number in numbers]


def contact_sheet(rows: list[list[Image.Image]], path: Path) -> None:
    """Rows of squares as one PNG."""
    side, gap = rows[0][0].width, 4
    sheet = Image.new("RGB", (max(map(len, rows)) * (side + gap), len(rows) * (side + gap)), "white")
    for y, row in enumerate(rows):
        for x, image in enumerate(row):
            sheet.paste(image, (x * (side + gap), y * (side + gap)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    print(f"contact sheet: {path}")


class View:
    """A graph with its labels, and the words for a node."""

    def __init__(self, result: Path, dataset: Path):
        self.table = read_table(result / "knn.arrow")
        self.neighbours, self.similarities = matrix(self.table, "neighbours"), matrix(self.table, "similarities")
        self.classes = read_json(dataset / "manifest.json")["classes"]
        self.labels = labels_of(dataset)
        if self.labels is not None and len(self.labels) != len(self.neighbours):
            raise UserError(f"{result} has {len(self.neighbours)} nodes, and {dataset} {len(self.labels)} images")

    def name(self, number: int) -> str:
        return "-" if self.labels is None or self.labels[number] < 0 else self.classes[self.labels[number]]

    def checked(self, number: int) -> int:
        if not 0 <= number < len(self.neighbours):
            raise UserError(f"there is no image {number}: the graph has images 0 to {len(self.neighbours) - 1}")
        return number

    def class_number(self, name: str) -> int:
        if name not in self.classes:
            raise UserError(f"there is no class {name!r}; the classes: {', '.join(self.classes[:40])}")
        return self.classes.index(name)


def show_anchor(view: View, result: Path, anchor: int) -> list[list[int]]:
    print(f"image {anchor}, class {view.name(anchor)}\n{'rank':>4}  {'image':>8}  {'similarity':>10}  class")
    near = [int(i) for i in view.neighbours[anchor]]
    for rank, number in enumerate(near, 1):
        print(f"{rank:>4}  {number:>8}  {view.similarities[anchor, rank - 1]:>10.4f}  {view.name(number)}")
    pairs = read_table(result / "positives.arrow")
    mine = np.flatnonzero(pairs["anchor"].to_numpy() == anchor)
    positives, distance, chosen = (pairs[n].to_numpy(zero_copy_only=False)[mine] for n in ("positive", "distance", "chosen"))
    rows = [[anchor, *near]]
    for step in np.unique(distance):
        at = positives[distance == step]
        print(
            f"step {step} of the walk: {len(at)} images: {', '.join(f'{i} ({view.name(i)})' for i in at[:12])}{' ...' if len(at) > 12 else ''}"
        )
        rows.append([anchor, *map(int, at[:20])])
    if len(mine):
        similarity = pairs["similarity"].to_numpy()[mine]
        print(
            f"the loss takes {int(chosen.sum())} of {len(mine)} positives, down to a similarity of {similarity[chosen].min():.4f}"
        )
    return rows


def show_hubs(view: View, most: int) -> list[list[int]]:
    degree = in_degree(view.neighbours)
    hubs = [int(i) for i in np.argsort(-degree, kind="stable")[:most]]
    print(f"{'image':>8}  {'in-degree':>9}  class")
    for number in hubs:
        print(f"{number:>8}  {degree[number]:>9}  {view.name(number)}")
    return [hubs]


def show_path(view: View, start: int, end: int) -> list[list[int]]:
    path = shortest_path(view.neighbours, view.checked(start), view.checked(end))
    if not path:
        print(f"no path leads from image {start} to image {end}")
        return []
    for step, number in enumerate(path):
        print(f"{step:>4}  {number:>8}  {view.name(number)}")
    return [path]


def show_confused(view: View, one: str, other: str, most: int) -> list[list[int]]:
    if view.labels is None:
        raise UserError("this data set has no labels")
    first, second = view.class_number(one), view.class_number(other)
    anchors, columns = np.nonzero((view.labels[:, None] == first) & (view.labels[view.neighbours] == second))
    total = int((view.labels == first).sum()) * view.neighbours.shape[1]
    print(f"{len(anchors)} of {total} edges of class {one} end in class {other}")
    order = np.argsort(-view.similarities[anchors, columns], kind="stable")[:most]
    pairs = [[int(anchors[i]), int(view.neighbours[anchors[i], columns[i]])] for i in order]
    for anchor, number in pairs:
        print(f"{anchor:>8} -> {number:<8} {view.similarities[anchor][view.neighbours[anchor] == number][0]:.4f}")
    return pairs


def show_compare(view: View, other: Path, most: int) -> list[list[int]]:
    from invp.core.graph_measures import overlap

    kept = overlap(view.neighbours, matrix(read_table(other / "knn.arrow"), "neighbours"))
    print(f"{100 * kept.mean():.1f} % of the neighbours are the same in {other}; those that changed most:")
    changed = [int(i) for i in np.argsort(kept, kind="stable")[:most]]
    for number in changed:
        print(f"{number:>8}  {100 * kept[number]:>5.0f} % kept  {view.name(number)}")
    return [changed]


def run(options: argparse.Namespace) -> None:
    """Prints what was asked of the graph, or its measures."""
    dataset = options.data or dataset_of(options.result)
    view = View(options.result, dataset)
    if options.anchor is not None:
        rows = show_anchor(view, options.result, view.checked(options.anchor))
    elif options.path:
        rows = show_path(view, *options.path)
    elif options.hubs:
        rows = show_hubs(view, options.most)
    elif options.confused:
        rows = show_confused(view, *options.confused, options.most)
    elif options.compare:
        rows = show_compare(view, options.compare, options.most)
    else:
        section = table_record(view.table).get("section", {})
        print(f"{len(view.neighbours)} nodes, {view.neighbours.shape[1]} neighbours each, stage {section.get('stage', '?')}")
        for name, value in read_json(options.result / "summary.json")["measures"].items():
            print(
                f"  {name.replace('_', ' '):34} {value:.4f}"
                if isinstance(value, float)
                else f"  {name.replace('_', ' '):34} {value}"
            )
        rows = []
    if options.sheet and rows:
        contact_sheet([images_of(dataset, row) for row in rows if row], options.sheet)
