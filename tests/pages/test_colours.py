"""The colours of plots: as the colour-blind see them, on both papers, and the same in Python and in the pages' style."""

import re

import numpy as np
import pytest

from invp.pages.html import template
from invp.pages.plots import COLOURS, LINE_STYLES, MARKERS

# Machado, Oliveira and Fernandes, IEEE Transactions on Visualization and Computer Graphics 15 (2009), severity 1.
SEEN = {
    "all colours": np.eye(3),
    "no red": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "no green": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "no blue": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
XYZ = np.array([[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]])


def linear(colour: str) -> np.ndarray:
    """A colour #rrggbb or #rgb as linear RGB."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    values = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """Linear RGB as CIE 1976 L*a*b*, white D65."""
    x, y, z = np.cbrt(XYZ @ np.clip(rgb, 0, 1) / [0.95047, 1, 1.08883])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """The ratio of the Web Content Accessibility Guidelines."""
    low, high = sorted(XYZ[1] @ linear(colour) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def colours(scheme: str) -> dict[str, str]:
    """The custom properties of a scheme that are colours: the first block of the style is light, the second dark."""
    blocks = re.findall(r":root \{(.*?)\n *\}", template("report.css"), re.DOTALL)
    return dict(re.findall(r"--([\w-]+): (#\w+);", blocks[("light", "dark").index(scheme)]))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_series_are_told_apart_by_the_colour_blind_and_from_the_paper(scheme):
    found = colours(scheme)
    series = [found[f"series-{number}"] for number in range(1, 1 + len(COLOURS))]
    for name, matrix in SEEN.items():
        seen = [lab(np.array(matrix) @ linear(colour)) for colour in series]
        nearest = min(np.linalg.norm(one - other) for i, one in enumerate(seen) for other in seen[:i])
        assert nearest > 10, f"{name}: a just noticeable difference is 2.3"
    assert min(contrast(colour, found["paper"]) for colour in series) >= 3
    assert (
        min(contrast(found[name], found[paper]) for name in ("ink", "soft", "accent", "other") for paper in ("paper", "wash"))
        >= 4.5
    )


def test_the_style_has_the_colours_that_plots_are_drawn_with():
    found = colours("light")
    assert [found[f"series-{number}"] for number in range(1, 1 + len(COLOURS))] == list(COLOURS)
    assert len(set(MARKERS)) >= len(COLOURS) and len(set(LINE_STYLES)) == len(LINE_STYLES)
