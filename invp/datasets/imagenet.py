"""ImageNet (ILSVRC 2012): folders of classes (imagenet/train/n01440764/*.JPEG, imagenet/val/...), or the original tars in imagenet/.

The tars: ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz; they are read where they are, without
unpacking. The validation images are the split `test`, because the labels of the true test set are not public.
"""

import io
import os
import tarfile
from dataclasses import dataclass
from pathlib import Path

from invp.datasets import image_folder
from invp.datasets._photos import Files, needed, source_of_files
from invp.datasets._source import Source
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

SPLITS = ("train", "test")
TARS = {"train": "ILSVRC2012_img_train.tar", "test": "ILSVRC2012_img_val.tar"}
DEVKIT = "ILSVRC2012_devkit_t12.tar.gz"


@dataclass
class Config(image_folder.Config):
    """An `image_folder` with ImageNet's names. About two dozen of its training images are CMYK: they are converted."""

    folder: str = option("imagenet", "under the data root", filled=True)
    test: str = option("val", "the folder of this split", filled=True)
    on_bad_image: str = option("convert", "as of image_folder", choices=("error", "skip", "convert"))


def check_root(config: Config, root: Path) -> None:
    folder = root / config.folder
    if (folder / TARS["train"]).exists():
        return
    for place in (folder / config.train, folder):
        if tars := sorted(path.name for path in place.glob("n*.tar")):
            raise UserError(
                f"{place} holds the tars of {len(tars)} classes ({tars[0]}, ...), which are not read; unpack each into a folder of its name "
                f"in {folder / config.train}, or put the original {TARS['train']} into {folder}"
            )
    image_folder.check_root(config, root)


def reads_tars(config: Config, folder: Path, split: str) -> bool:
    return not (folder / getattr(config, split)).is_dir() and (folder / TARS["train"]).exists()


def raw_files(config: Config, root: Path, split: str) -> list[str | Path]:
    """As of image_folder; or the split's tar and the development kit."""
    folder = root / config.folder
    return (
        [folder / TARS[split], folder / DEVKIT]
        if reads_tars(config, folder, split)
        else image_folder.raw_files(config, root, split)
    )


def has_split(config: Config, root: Path, split: str) -> bool:
    return (root / config.folder / TARS[split]).exists() or image_folder.has_split(config, root, split)


def load(config: Config, root: Path | None, split: str) -> Source:
    """The official split, from folders if they are there, else from the tars."""
    folder = (root or Path("data")) / config.folder
    if not reads_tars(config, folder, split):
        check_root(config, root or Path("data"))
        return image_folder.load(config, root, split)
    if config.test_share or config.test_labels or config.train_labels or config.decode:
        raise UserError("test_share, train_labels, test_labels and decode are for folders of images; ImageNet is here as its tars")
    path = needed(folder / TARS[split], f"split {split}", "the original tar")
    members = _nested(path) if split == "train" else _labelled(path, folder / DEVKIT)
    classes = config.classes or sorted({wnid for wnid, *_ in members})
    members = sorted(member for member in members if member[0] in set(classes))
    number = {wnid: i for i, wnid in enumerate(classes)}
    descriptor = os.open(path, os.O_RDONLY)

    def read(i: int) -> bytes:
        _, _, offset, size = members[i]
        return os.pread(descriptor, size, offset)

    names, sizes = [f"{wnid}/{name}" for wnid, name, _, _ in members], [size for *_, size in members]
    files = Files(names, [number[wnid] for wnid, *_ in members], read, sizes)
    return source_of_files(files, classes, config, split, "official tars")


def _nested(path: Path) -> list[tuple[str, str, int, int]]:
    """(class, name, offset, size) of every image of the training tar, which holds a tar a class."""
    found = []
    with _opened(path) as outer:
        for entry in outer:
            inside = outer.extractfile(entry)
            if entry.name.endswith(".tar") and inside is not None:
                with tarfile.open(fileobj=inside) as inner:
                    found += [(entry.name[:-4], m.name, entry.offset_data + m.offset_data, m.size) for m in inner if m.isfile()]
    return found


def _labelled(path: Path, devkit: Path) -> list[tuple[str, str, int, int]]:
    """The same of the validation tar, whose labels are in the development kit."""
    from scipy.io import loadmat

    needed(devkit, "the development kit with the validation labels", DEVKIT)
    contents = {}
    with _opened(devkit) as kit:
        for entry in kit:
            name = Path(entry.name).name
            if name in ("meta.mat", "ILSVRC2012_validation_ground_truth.txt"):
                contents[name] = kit.extractfile(entry).read()
    synsets = loadmat(io.BytesIO(contents["meta.mat"]), squeeze_me=True, struct_as_record=False)["synsets"]
    wnids = {int(s.ILSVRC2012_ID): str(s.WNID) for s in synsets if int(s.num_children) == 0}
    labels = [int(word) for word in contents["ILSVRC2012_validation_ground_truth.txt"].split()]
    with _opened(path) as tar:
        members = sorted((m for m in tar if m.isfile()), key=lambda m: m.name)
    if len(members) != len(labels):
        raise UserError(f"{path} holds {len(members)} images, but {devkit} has {len(labels)} labels")
    return [(wnids[label], m.name, m.offset_data, m.size) for m, label in zip(members, labels, strict=True)]


def _opened(path: Path) -> tarfile.TarFile:
    try:
        return tarfile.open(path)
    except (tarfile.TarError, EOFError, OSError) as error:
        raise UserError(f"{path} cannot be read as a tar: {error}") from None
