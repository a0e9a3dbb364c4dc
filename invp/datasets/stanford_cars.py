"""Stanford Cars: 8,144 training and 8,041 test photographs of 196 cars (Krause et al., 2013), in torchvision's layout stanford_cars/."""

from dataclasses import dataclass
from pathlib import Path

from invp.datasets._photos import PhotoConfig, files_under, needed, source_of_files
from invp.datasets._source import Source
from invp.plumbing.raw_data import below

SPLITS = ("train", "test")
LISTS = {"train": ("devkit/cars_train_annos.mat", "cars_train"), "test": ("cars_test_annos_withlabels.mat", "cars_test")}


@dataclass
class Config(PhotoConfig):
    """No options of its own."""


def check_root(config: Config, root: Path) -> None:
    for part in ("devkit/cars_meta.mat", *LISTS["train"], *LISTS["test"]):
        needed(
            root / "stanford_cars" / part, "Stanford Cars", "stanford_cars/{devkit,cars_train,cars_test,...} as torchvision has it"
        )


def raw_files(config: Config, root: Path, split: str) -> list[str]:
    """The split's list, the classes, and the folder of the split's images."""
    folder = root / "stanford_cars"
    listed, images = LISTS[split]
    return [f"{folder}/{listed}", f"{folder}/devkit/cars_meta.mat", *below(folder / images)]


def load(config: Config, root: Path | None, split: str) -> Source:
    """The official split."""
    from scipy.io import loadmat

    check_root(config, root or Path("data"))
    folder = (root or Path("data")) / "stanford_cars"
    listed, images = LISTS[split]
    annotations = loadmat(folder / listed, squeeze_me=True)["annotations"].reshape(-1)
    names, labels = [str(entry["fname"]) for entry in annotations], [int(entry["class"]) - 1 for entry in annotations]
    classes = [str(name) for name in loadmat(folder / "devkit/cars_meta.mat", squeeze_me=True)["class_names"].reshape(-1)]
    return source_of_files(files_under(folder / images, names, labels), classes, config, split, "official")
