"""Draws docs/images/method.svg: the graph, the walk and the hard positives of a small made-up example, found by the package's own search.

`python docs/images/method.py` from the root writes it anew. N points, D = 3 dimensions, k neighbours.
"""

from pathlib import Path

import numpy as np
import torch

from invp.core.neighbours import knn_graph
from invp.core.propagation import discover

K, STEPS, HARD = 3, 3, 3
ANCHOR = 3
WIDE, HIGH, GAP, TOP, FOOT = 300, 236, 20, 34, 34
TITLES = ("1. Each image and its 3 nearest", "2. Three steps from the anchor", "3. The least similar of these")
BELOW = (
    ("An arrow leads from an image to each of", "its neighbours in the memory bank."),
    ("What the walk reaches is a positive. Of as many", "nearest images one would be a square."),
    ("The stars are the hard positives: the loss", "draws the anchor to them, and not to the rest."),
)
GREY, BLUE, ORANGE, INK = "#b9bec6", "#1f6fb2", "#c8500a", "#1c2128"


def points() -> tuple[np.ndarray, np.ndarray]:
    """Two bands that bend around each other, 14 points each: their places in the plane (Nx2), within 0.8 of the middle; and their classes."""
    generator = np.random.default_rng(4)
    turn = np.linspace(0.0, np.pi, 14)
    upper = np.stack([0.5 * np.cos(turn) - 0.2, 0.55 * np.sin(turn) - 0.12], 1)
    lower = np.stack([0.2 - 0.5 * np.cos(turn), 0.12 - 0.55 * np.sin(turn)], 1)
    return np.concatenate([upper, lower]) + generator.normal(0, 0.022, (28, 2)), np.repeat([0, 1], 14)


def found(places: np.ndarray) -> tuple[np.ndarray, dict[int, int], list[int]]:
    """The neighbours (Nxk), the positives of the anchor with their steps, and the hard ones among them.

    A point is the unit vector above its place, so that the similarity of two is their dot product, as in the bank.
    """
    rows = torch.from_numpy(np.concatenate([places, np.sqrt(1 - (places**2).sum(1, keepdims=True))], 1)).float()
    neighbours = knn_graph(rows, K)[1]
    reached = discover(neighbours, torch.tensor([ANCHOR]), STEPS)
    steps = {int(i): int(d) for i, d, there in zip(reached.index[0], reached.distance[0], reached.mask[0], strict=True) if there}
    hard = sorted(steps, key=lambda i: float(rows[i] @ rows[ANCHOR]))[:HARD]
    return neighbours.numpy(), steps, hard


def arrow(start: np.ndarray, end: np.ndarray, colour: str, width: float) -> str:
    """A line that ends at the border of the points, with a head."""
    along = (end - start) / np.linalg.norm(end - start)
    (x1, y1), (x2, y2) = start + 7 * along, end - 9 * along
    head = f'marker-end="url(#{"walk" if colour == BLUE else "edge"})"'
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}" {head}/>'


def mark(place: np.ndarray, kind: int, fill: str) -> str:
    """A circle of the first class, a square of the second."""
    x, y = place
    if kind:
        return f'<rect x="{x - 5:.1f}" y="{y - 5:.1f}" width="10" height="10" fill="{fill}" stroke="{INK}"/>'
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="{fill}" stroke="{INK}"/>'


def star(place: np.ndarray) -> str:
    corners = [place + (10.5 if n % 2 == 0 else 4.5) * np.array([np.sin(n * np.pi / 5), -np.cos(n * np.pi / 5)]) for n in range(10)]
    return f'<polygon points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in corners)}" fill="{ORANGE}" stroke="{INK}"/>'


def panel(number: int) -> str:
    """One of the three pictures, at its place in the row."""
    places, classes = points()
    neighbours, steps, hard = found(places)
    at = np.array([WIDE, HIGH]) / 2 + places * [1, -1] * WIDE * 0.62
    parts = [f'<text x="{WIDE / 2}" y="-12" class="title">{TITLES[number]}</text>']
    for i, row in enumerate(neighbours):
        parts += [arrow(at[i], at[j], GREY, 1) for j in row]
    if number == 1:
        near = [ANCHOR, *(i for i, step in steps.items() if step < STEPS)]
        parts += [arrow(at[i], at[j], BLUE, 1.8) for i in near for j in neighbours[i]]
    if number == 2:
        ends = [(at[ANCHOR], at[i]) for i in hard]
        parts += [f'<path d="M{a[0]:.1f} {a[1]:.1f} L{b[0]:.1f} {b[1]:.1f}" class="pull"/>' for a, b in ends]
    for i, place in enumerate(at):
        if number == 2 and i in hard:
            parts.append(star(place))
        else:
            parts.append(mark(place, classes[i], INK if i == ANCHOR else BLUE if number and i in steps else "white"))
    x, y = at[ANCHOR]
    parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="10" fill="none" stroke="{INK}" stroke-width="2"/>')
    parts.append(f'<text x="{x + 14:.1f}" y="{y - 6:.1f}" class="word">anchor</text>')
    parts += [f'<text x="{WIDE / 2}" y="{HIGH + 17 * n}" class="below">{line}</text>' for n, line in enumerate(BELOW[number])]
    return f'<g transform="translate({GAP + number * (WIDE + GAP)} {TOP})">{"".join(parts)}</g>'


def picture() -> str:
    width, height = GAP + 3 * (WIDE + GAP), TOP + HIGH + FOOT
    heads = "".join(
        f'<marker id="{name}" viewBox="0 0 6 6" refX="5" refY="3" markerWidth="5" markerHeight="5" orient="auto">'
        f'<path d="M0 0L6 3L0 6z" fill="{colour}"/></marker>'
        for name, colour in (("edge", GREY), ("walk", BLUE))
    )
    style = (
        f"text{{font-family:Helvetica,Arial,sans-serif;fill:{INK};text-anchor:middle}}.title{{font-size:16px;font-weight:bold}}"
        f".below{{font-size:12.5px}}.word{{font-size:13px;text-anchor:start}}.pull{{stroke:{ORANGE};stroke-width:2;stroke-dasharray:5 4}}"
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img"><title>The method in three pictures</title>'
        f"<defs>{heads}<style>{style}</style></defs>"
        f'<rect width="{width}" height="{height}" fill="white"/>{"".join(map(panel, range(3)))}</svg>\n'
    )


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
