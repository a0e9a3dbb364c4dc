"""Any folder of photographs with a folder a class: `{folder}/{train,test}/{class}/*.jpg`."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from invp.datasets._source import BaseConfig, Sample, Source, balanced
from invp.errors import UserError

SPLITS = ("train", "test")
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


@dataclass
class Config(BaseConfig):
    """`folder` lies under the data root; `train` and `test` are the names of the splits' folders in it."""

    folder: str = ""
    train: str = "train"
    test: str = "test"


def split_folder(config: Config, root: Path, split: str) -> Path:
    """The folder of a split; UserError says what is expected where."""
    folder = root / config.folder / getattr(config, split)
    if not folder.is_dir():
        raise UserError(
            f"{folder} does not exist: expected a folder a class in it; set INVP_DATA (or data_root in the profile) to the folder "
            f"that holds {config.folder or getattr(config, split)}"
        )
    return folder


def check_root(config: Config, root: Path) -> None:
    split_folder(config, root, "train")


def load(config: Config, root: Path | None, split: str) -> Source:
    """The split's photographs as their original bytes, ordered by class and name; an empty class is an error."""
    folder = split_folder(config, root or Path("data"), split)
    classes = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    if not classes:
        raise UserError(f"{folder} holds no folder of a class")
    paths, labels = [], []
    for label, name in enumerate(classes):
        found = sorted(p for p in (folder / name).iterdir() if p.suffix.lower() in ENDINGS)
        if not found:
            raise UserError(f"{folder / name} holds no image ({', '.join(ENDINGS)})")
        paths += found
        labels += [label] * len(found)
    every = np.array(labels)
    chosen = balanced(every, config.per_class, config.split_seed) if split == "train" else np.arange(len(every))

    def read(number: int) -> Sample:
        path = paths[chosen[number]]
        content = path.read_bytes()
        try:
            Image.open(io.BytesIO(content)).verify()
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"{path} is no readable image: {error}") from None
        return Sample(content, int(every[chosen[number]]), str(path.relative_to(folder)))

    listing = "\n".join(f"{paths[i].relative_to(folder)} {paths[i].stat().st_size}" for i in chosen).encode()
    return Source(classes, len(chosen), read, listing, "official folders", "encoded", None)
