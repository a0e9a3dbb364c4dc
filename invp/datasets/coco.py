"""COCO's annotations: objects with boxes in one JSON file a split, and a folder of its images; several labels an image.

Images without an annotation are kept. A crowd (`iscrowd`) is a difficult object, as in VOC's layout: present, but asked of nobody.
"""

import hashlib
import json
import math
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from invp.datasets._listing import SHOWN, shared, shown
from invp.datasets._photos import PhotoConfig, files_under, needed, source_of_files
from invp.datasets._source import Source
from invp.plumbing.errors import UserError
from invp.plumbing.options import option
from invp.plumbing.raw_data import below

SPLITS = ("train", "test", "val")
MULTI_LABEL = True
LAYOUT = "{folder}/annotations/instances_train2017.json with its images in {folder}/train2017"


@dataclass
class Config(PhotoConfig):
    """Instances of COCO; its own test annotations are not public, so `test` is val2017 unless another file is named."""

    folder: str = option("coco", "under the data root")
    train: str = option("train2017", "the folder of this split's images, from which file names count", filled=True)
    test: str = option("val2017", "as train", filled=True)
    val: str = option("val", "as train", filled=True)
    train_annotations: str = option("annotations/instances_train2017.json", "the file of this split, in `folder`", filled=True)
    test_annotations: str = option("annotations/instances_val2017.json", "as train_annotations", filled=True)
    val_annotations: str = option("annotations/instances_val.json", "as train_annotations", filled=True)
    test_share: float = option(
        0.0, "the share of `train`'s images that is the test split, chosen by split_seed; 0: `test` is", least=0, below=1
    )
    classes: list[str] = option(
        [], "names of objects, in the order of labels, others are left out; empty: train's categories, by their ids"
    )
    on_bad_box: str = option(
        "error",
        "a box without an area, or wholly outside its image, is an error, or is left out and counted",
        choices=("error", "skip"),
    )

    BALANCED = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.short_side:
            raise UserError(f"short_side is {self.short_side}; valid for sets with boxes, which would lie elsewhere: 0")


@dataclass
class Annotations:
    """A file's images in its order, the names of its categories in the order of their ids, and the objects of each image by its id."""

    images: list[dict]
    categories: dict[int, str]
    objects: dict[int, list[dict]] = field(default_factory=dict)
    digest: str = ""


def file_of(config: Config, root: Path, split: str) -> Path:
    return root / config.folder / getattr(config, f"{split}_annotations")


def has_split(config: Config, root: Path, split: str) -> bool:
    """Whether there is a file of this split; only that of `train` must be there."""
    folder = root / config.folder / getattr(config, split)
    return (split == "test" and config.test_share > 0) or (file_of(config, root, split).exists() and folder.is_dir())


def check_root(config: Config, root: Path) -> None:
    needed(file_of(config, root, "train"), "a set with COCO's annotations", LAYOUT)
    needed(root / config.folder / config.train, "the folder of its images", LAYOUT)
    if config.test_share and (where := file_of(config, root, "test")).exists():
        raise UserError(f"test_share is {config.test_share:g}, but there is a test split, {where}; set test_share: 0")


def raw_files(config: Config, root: Path, split: str) -> list[str | Path]:
    """The split's images and its file of instances, and train's file, which knows the classes."""
    place = "train" if split == "test" and config.test_share else split
    return [file_of(config, root, place), file_of(config, root, "train"), *below(root / config.folder / getattr(config, place))]


def read_annotations(path: Path) -> Annotations:
    """A file of instances; UserError names it and what it lacks."""
    content = needed(path, "a file of instances", LAYOUT).read_bytes()
    try:
        read = json.loads(content)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    images = _entries(read, "images", {"id": int, "file_name": str, "width": int, "height": int}, path)
    categories = _entries(read, "categories", {"id": int, "name": str}, path)
    objects = _entries(read, "annotations", {"image_id": int, "category_id": int, "bbox": list}, path)
    for key, entries in (("images", images), ("categories", categories)):
        if twice := [number for number, count in Counter(entry["id"] for entry in entries).items() if count > 1]:
            raise UserError(f"{path}: two {key} have the id {twice[0]}")
    names = {entry["id"]: entry["name"] for entry in sorted(categories, key=lambda entry: entry["id"])}
    if len(set(names.values())) < len(names):
        raise UserError(f"{path}: two categories have one name: {Counter(names.values()).most_common(1)[0][0]}")
    found: dict[int, list[dict]] = {entry["id"]: [] for entry in images}
    for entry in objects:
        if entry["image_id"] not in found or entry["category_id"] not in names:
            key = "image_id" if entry["image_id"] not in found else "category_id"
            raise UserError(f"{path}: annotation {entry.get('id')} has {key} {entry[key]}, which the file does not list")
        found[entry["image_id"]].append(entry)
    return Annotations(images, names, found, hashlib.sha256(content).hexdigest())


def _entries(read: Any, key: str, kinds: dict[str, type], path: Path) -> list[dict]:
    """The list under a key, each of its entries with values of these kinds."""
    entries = read.get(key) if isinstance(read, dict) else None
    if not isinstance(entries, list):
        raise UserError(f"{path} has no list '{key}': a file of instances has images, annotations and categories")
    for number, entry in enumerate(entries):
        if wrong := [name for name, kind in kinds.items() if not isinstance(entry, dict) or not isinstance(entry.get(name), kind)]:
            raise UserError(f"{path}: '{wrong[0]}' of {key}[{number}] is missing or of the wrong kind")
    return entries


def fault_of(box: list, image: dict) -> str:
    """Why x, y, width and height are no box of an image, or ''."""
    if len(box) != 4 or not all(isinstance(value, (int, float)) and math.isfinite(value) for value in box):
        return "is not four numbers"
    x, y, width, height = box
    if width <= 0 or height <= 0:
        return "has no area"
    if x >= image["width"] or y >= image["height"] or x + width <= 0 or y + height <= 0:
        return f"lies outside its image of {image['width']} x {image['height']} pixels"
    return ""


def with_good_boxes(found: Annotations, config: Config, path: Path) -> int:
    """Takes the bad boxes out and returns how many there were; UserError names the first of them unless they may be left out."""
    faults = []
    for image in found.images:
        good = []
        for entry in found.objects[image["id"]]:
            if fault := fault_of(entry["bbox"], image):
                faults.append(f"{entry['bbox']} of annotation {entry.get('id')} ({shown(image['file_name'])}) {fault}")
            else:
                good.append(entry)
        found.objects[image["id"]] = good
    if faults and config.on_bad_box == "error":
        first = "; ".join(faults[:SHOWN])
        raise UserError(f"{path} has {len(faults)} bad boxes; on_bad_box: skip leaves them out and counts them: {first}")
    return len(faults)


def objects_of(entries: list[dict], number: dict[int, int], num_classes: int) -> dict:
    """The objects of an image as fields of Sample, without those of other classes. COCO's x and y count from 0: (0, 0, 9, 9) is 9 wide."""
    boxes, box_labels, difficult = [], [], []
    for entry in entries:
        if entry["category_id"] in number:
            x, y, width, height = map(float, entry["bbox"])
            boxes.append([x, y, x + width, y + height])
            box_labels.append(number[entry["category_id"]])
            difficult.append(bool(entry.get("iscrowd", 0)))
    labels = [0] * num_classes
    for label, crowd in zip(box_labels, difficult, strict=True):
        labels[label] = 1 if not crowd or labels[label] == 1 else -1
    return {"labels": labels, "boxes": boxes, "box_labels": box_labels, "difficult": difficult}


def classes_of(config: Config, root: Path, split: str, found: Annotations) -> list[str]:
    """The classes of every split: the option's, else train's; UserError if they are not among the file's, or the file has others."""
    train = found if split == "train" else read_annotations(file_of(config, root, "train"))
    present = set(train.categories.values())
    if missing := [name for name in config.classes if name not in present]:
        raise UserError(f"{file_of(config, root, 'train')} has no category '{missing[0]}'; it has {', '.join(sorted(present))}")
    classes = config.classes or list(train.categories.values())
    if not config.classes and (unknown := sorted(set(found.categories.values()) - set(classes))):
        raise UserError(f"{file_of(config, root, split)} has the category '{unknown[0]}', which train's file does not have")
    return classes


def load(config: Config, root: Path | None, split: str) -> Source:
    """The images of a split in the file's order, or, with `test_share`, a seeded share of `train`'s."""
    root = root or Path("data")
    check_root(config, root)
    place = "train" if split == "test" and config.test_share else split
    path = file_of(config, root, place)
    found = read_annotations(path)
    classes = classes_of(config, root, place, found)
    ignored = Counter({"bad boxes": with_good_boxes(found, config, path)})
    number = {identifier: classes.index(name) for identifier, name in found.categories.items() if name in classes}
    kept, rule = found.images, f"listed in {path.name}"
    if config.test_share and split in ("train", "test"):
        chosen = shared(np.zeros(len(kept), np.int64), config.test_share, config.split_seed, split)
        kept = [kept[i] for i in chosen]
        rule += f"; {config.test_share:g} for test, the rest for train, seed {config.split_seed}"
    entries = [found.objects[image["id"]] for image in kept]
    ignored["objects of other classes"] = sum(entry["category_id"] not in number for own in entries for entry in own)
    files = files_under(root / config.folder / getattr(config, place), [image["file_name"] for image in kept], None)
    source = source_of_files(files, classes, config, split, rule, lambda i: objects_of(entries[i], number, len(classes)))
    source.listing += found.digest.encode()
    source.ignored = {kind: count for kind, count in sorted(ignored.items()) if count}
    return source
