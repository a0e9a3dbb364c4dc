"""What lies in a user's folders: images at any depth, lists of paths and labels, and a test share where there is no test split."""

import csv
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np

from invp.plumbing.errors import UserError

ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
PATHS = ("path", "file", "file_name", "filename", "image")  # names of a list's column of paths
LABELS = ("label", "class", "category")
SHOWN = 20  # of many faults, so many are named


def shown(name: str) -> str:
    """A file's name as text: bytes that are not UTF-8 are written as \\xff."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def images_under(folder: Path, ignored: Counter, depth: int = 99) -> list[tuple[str, int]]:
    """Relative path and size of the images in a folder and in the folders below it, through links too, sorted by path.

    Files that are no images are counted in `ignored` by their ending, those whose names begin with a dot as hidden. With
    `depth` 0 the folders below are not entered.
    """
    found: list[tuple[str, int]] = []

    def enter(path: str, prefix: str, above: tuple[tuple[int, int], ...]) -> None:
        about = os.stat(path)
        here = (about.st_dev, about.st_ino)
        if here in above:
            raise UserError(f"{shown(path)} is a link to a folder above itself; remove the link")
        with os.scandir(path) as entries:
            for entry in entries:
                name = prefix + entry.name
                if entry.name.startswith("."):
                    ignored["hidden"] += 1
                elif entry.is_dir():
                    if len(above) < depth:
                        enter(entry.path, f"{name}/", (*above, here))
                elif not entry.name.lower().endswith(ENDINGS):
                    ignored[shown(os.path.splitext(entry.name)[1].lower()) or "no ending"] += 1
                else:
                    try:
                        found.append((name, entry.stat().st_size))
                    except FileNotFoundError:
                        raise UserError(f"{shown(entry.path)} is a link to a file that does not exist; remove it") from None

    enter(str(folder), "", ())
    return sorted(found)


def folders_in(folder: Path) -> list[str]:
    """The names of a folder's folders, sorted, without hidden ones."""
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))


def read_labels(path: Path) -> tuple[list[str], list[str]]:
    """The paths and labels, as text, of a list: JSON Lines (.jsonl), or CSV with tabs, commas, semicolons or blanks.

    The columns are found by their names in the first line or in each object; without names, they are the first two.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise UserError(f"the list of labels {path} cannot be opened: {error.strerror}") from None
    rows = _objects(path, text) if path.suffix in (".jsonl", ".ndjson") else _lines(path, text)
    if not rows:
        raise UserError(f"{path} lists no image")
    return [name for name, _ in rows], [label for _, label in rows]


def _objects(path: Path, text: str) -> list[tuple[str, str]]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}, line {number} is no JSON: {error.msg}; write one object a line") from None
        keys = list(entry) if isinstance(entry, dict) else []
        rows.append((str(entry[_column(path, keys, PATHS)]), str(entry[_column(path, keys, LABELS)])))
    return rows


def _column(path: Path, names: list[str], wanted: tuple[str, ...]) -> str:
    found = [name for name in names if name.strip().lower() in wanted]
    if not found:
        raise UserError(f"{path} has the columns {', '.join(map(str, names)) or 'none'}; one must be called {' or '.join(wanted)}")
    return found[0]


def _lines(path: Path, text: str) -> list[tuple[str, str]]:
    lines = text.removeprefix("\ufeff").splitlines()
    first = next((line for line in lines if line.strip()), "")
    separator = next((each for each in "\t,;" if each in first), None)
    fields = list(csv.reader(lines, delimiter=separator)) if separator else [line.rsplit(None, 1) for line in lines]
    names, at, start = fields[lines.index(first)] if first else [], (0, 1), 0
    if any(name.strip().lower() in PATHS for name in names):
        at = names.index(_column(path, names, PATHS)), names.index(_column(path, names, LABELS))
        start = lines.index(first) + 1
    rows = []
    for number, row in enumerate(fields[start:], start + 1):
        if not row:
            continue
        if len(row) <= max(at) or not row[at[0]] or not row[at[1]].strip():
            raise UserError(f"{path}, line {number}: expected a path and a label, not {shown(' '.join(row))!r}")
        rows.append((row[at[0]].strip(), row[at[1]].strip()))
    return rows


def in_order(labels: set[str]) -> list[str]:
    """Names of classes sorted; by value if all are whole numbers. UserError for numbers below 0, which usually mean no label."""
    if all(label.lstrip("-").isdigit() for label in labels):
        if negative := [label for label in labels if label.startswith("-")]:
            raise UserError(f"label {negative[0]} is below 0; leave images without a label out of the list")
        return sorted(labels, key=int)
    return sorted(labels)


def shared(labels: np.ndarray, share: float, seed: int, split: str) -> np.ndarray:
    """The numbers, ascending, of the images of `split` where `test` is a share of each class, chosen by a seed, and `train` the rest.

    A class of two or more images has at least one in either split; a single image is for training.
    """
    generator = np.random.default_rng(seed)
    test = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = min(max(1, round(share * len(members))), len(members) - 1)
        test[generator.permutation(members)[:count]] = True
    return np.flatnonzero(test if split == "test" else ~test)
