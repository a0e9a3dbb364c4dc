"""PASCAL VOC's layout: JPEGImages, Annotations (XML), lists of names in a folder of ImageSets, and masks in SegmentationClass."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from invp.datasets._photos import PhotoConfig, files_under, needed, source_of_files
from invp.datasets._source import Source
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

CLASSES = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person pottedplant sheep sofa train tvmonitor"
).split()


@dataclass
class VOCConfig(PhotoConfig):
    """A set in PASCAL VOC's layout."""

    folder: str = option("VOCdevkit/VOC2007", "under the data root", filled=True)
    train: str = option("trainval", "the list in ImageSets/Main that plays this role", filled=True)
    test: str = option("test", "the list in ImageSets/Main that plays this role", filled=True)
    val: str = option("val", "the list in ImageSets/Main that plays this role", filled=True)
    classes: list[str] = option(list(CLASSES), "names of objects, in the order of labels", filled=True)

    BALANCED = False
    LISTS = "Main"  # the folder in ImageSets
    MASKS = False  # whether each image has a mask

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.short_side:
            raise UserError(f"short_side is {self.short_side}; valid for sets with boxes, which would lie elsewhere: 0")


def check_voc_root(config: VOCConfig, root: Path) -> None:
    masks = ["SegmentationClass"] if config.MASKS else []
    parts = ",".join(["JPEGImages", "Annotations", *masks, f"ImageSets/{config.LISTS}"])
    for part in ("JPEGImages", "Annotations", *masks, f"ImageSets/{config.LISTS}/{config.train}.txt"):
        needed(root / config.folder / part, "PASCAL VOC", f"{config.folder}/{{{parts}}}")


def list_of(config: VOCConfig, root: Path, split: str) -> Path:
    """The file that names the images of a split."""
    return root / config.folder / "ImageSets" / config.LISTS / f"{getattr(config, split)}.txt"


def names_in(listed: Path) -> list[str]:
    """The names of images in a list."""
    return [line.split()[0] for line in listed.read_text().splitlines() if line.strip()]


def raw_voc(config: VOCConfig, root: Path, split: str) -> list[Path]:
    """The list of a split, and the images, annotations and masks that it names."""
    listed = list_of(config, root, split)
    return [listed, *files_of(root / config.folder, names_in(listed), config.MASKS)]


def files_of(folder: Path, names: list[str], masks: bool) -> list[Path]:
    """The images, the annotations and, if they are asked for, the masks of these names."""
    parts = ["JPEGImages/{}.jpg", "Annotations/{}.xml"] + ["SegmentationClass/{}.png"] * masks
    return [folder / part.format(name) for part in parts for name in names]


def has_list(config: VOCConfig, root: Path, split: str) -> bool:
    """Whether there is a list of the split's images."""
    return list_of(config, root, split).exists()


def objects_of(path: Path, classes: list[str]) -> dict:
    """The objects of an annotation as fields of Sample. VOC counts pixels from 1 and includes the ends: (1, 1, 10, 10) is (0, 0, 10, 10) here."""
    try:
        root = ElementTree.parse(path).getroot()
    except FileNotFoundError:
        raise UserError(f"{path} does not exist, but its image is listed") from None
    except ElementTree.ParseError as error:
        raise UserError(f"{path} is no readable annotation: {error}") from None
    boxes, box_labels, difficult = [], [], []
    for entry in root.iter("object"):
        name, box = entry.findtext("name", "").strip(), entry.find("bndbox")
        if name not in classes or box is None:
            raise UserError(f"{path} has an object '{name}' without a box or of no class; the classes are {', '.join(classes)}")
        left, top, right, bottom = (float(box.findtext(key, "nan")) for key in ("xmin", "ymin", "xmax", "ymax"))
        if not (left <= right and top <= bottom):
            raise UserError(f"{path} has a box of '{name}' that is no box: {left}, {top}, {right}, {bottom}")
        boxes.append([left - 1, top - 1, right, bottom])
        box_labels.append(classes.index(name))
        difficult.append(entry.findtext("difficult", "0").strip() == "1")
    labels = [0] * len(classes)
    for label, hard in zip(box_labels, difficult, strict=True):
        labels[label] = 1 if not hard or labels[label] == 1 else -1
    return {"labels": labels, "boxes": boxes, "box_labels": box_labels, "difficult": difficult}


def load_voc(config: VOCConfig, root: Path | None, split: str) -> Source:
    """A list of images with their objects; a class is present if one of its objects is not marked difficult."""
    root = root or Path("data")
    listed = needed(list_of(config, root, split), f"split {split}", "a list of names")
    masks = root / config.folder / "SegmentationClass"
    where = (lambda name: masks / f"{name}.png") if config.MASKS else None
    return source_of_names(config, root, split, names_in(listed), f"official list {listed.stem}", where)


# The list is another set's, or several, for one of its two callers: it gives the names and says what they are.
def source_of_names(
    config: VOCConfig, root: Path, split: str, names: list[str], rule: str, masks: Callable[[str], Path] | None = None
) -> Source:
    """The images of these names with their objects and, if `masks` says in which file each lies, their masks: PNG, or MATLAB's of SBD."""
    folder = root / config.folder
    annotations = [folder / "Annotations" / f"{name}.xml" for name in names]
    files = files_under(folder / "JPEGImages", [f"{name}.jpg" for name in names], None)

    def annotated(i: int) -> dict:
        return objects_of(annotations[i], config.classes) | ({"mask": mask_in(masks(names[i]))} if masks else {})

    source = source_of_files(files, config.classes, config, split, rule, annotated)
    source.masks = masks is not None
    marked = annotations + ([masks(name) for name in names] if masks else [])
    source.listing += b"".join(path.read_bytes() for path in marked if path.exists())
    return source


def mask_in(path: Path) -> bytes:
    """The mask in a file as PNG: as it is, or of SBD's `GTcls`."""
    try:
        if path.suffix == ".png":
            return path.read_bytes()
        from scipy.io import loadmat

        values = loadmat(path)["GTcls"]["Segmentation"][0, 0]
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{path} is no mask, but its image is listed: {error}") from None
    out = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(out, "PNG")
    return out.getvalue()
