"""PASCAL VOC's layout: JPEGImages, Annotations (XML) and lists of names in ImageSets/Main."""

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

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

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.short_side:
            raise UserError(f"short_side is {self.short_side}; valid for sets with boxes, which would lie elsewhere: 0")


def check_voc_root(config: VOCConfig, root: Path) -> None:
    for part in ("JPEGImages", "Annotations", f"ImageSets/Main/{config.train}.txt"):
        needed(root / config.folder / part, "PASCAL VOC", f"{config.folder}/{{JPEGImages,Annotations,ImageSets/Main}}")


def names_in(listed: Path) -> list[str]:
    """The names of images in a list."""
    return [line.split()[0] for line in listed.read_text().splitlines() if line.strip()]


def raw_voc(config: VOCConfig, root: Path, split: str) -> list[Path]:
    """The list of a split, and the images and annotations that it names."""
    folder = root / config.folder
    listed = folder / "ImageSets" / "Main" / f"{getattr(config, split)}.txt"
    names = names_in(listed)
    images, annotations = ([folder / part.format(name) for name in names] for part in ("JPEGImages/{}.jpg", "Annotations/{}.xml"))
    return [listed, *images, *annotations]


def has_list(config: VOCConfig, root: Path, split: str) -> bool:
    """Whether there is a list of the split's images."""
    return (root / config.folder / "ImageSets/Main" / f"{getattr(config, split)}.txt").exists()


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
    folder = (root or Path("data")) / config.folder
    name = getattr(config, split)
    listed = needed(folder / "ImageSets" / "Main" / f"{name}.txt", f"split {split}", "a list of names")
    names = names_in(listed)
    annotations = [folder / "Annotations" / f"{name}.xml" for name in names]
    files = files_under(folder / "JPEGImages", [f"{name}.jpg" for name in names], None)
    source = source_of_files(
        files, config.classes, config, split, f"official list {name}", lambda i: objects_of(annotations[i], config.classes)
    )
    source.listing += b"".join(path.read_bytes() for path in annotations if path.exists())
    return source
