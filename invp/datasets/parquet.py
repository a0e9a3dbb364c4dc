"""Parquet files in the layout of the Hugging Face hub: a column `image: {bytes, path}` and a column `label`."""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from invp.datasets._source import BaseConfig, Sample, Source, balanced
from invp.errors import UserError

SPLITS = ("train", "test")


@dataclass
class Config(BaseConfig):
    """`folder` lies under the data root; files are `{split}-*.parquet`. `decode`: pixels for equal-sized images up to 64 px."""

    folder: str = ""
    decode: bool = False


def files_of(folder: Path, split: str) -> list[Path]:
    """The split's files in order; UserError says what is expected where."""
    found = sorted(folder.glob(f"{split}-*.parquet"))
    if not found:
        raise UserError(f"{folder} holds no {split}-*.parquet; give the data root in INVP_DATA (or data_root in the profile)")
    return found


def check_root(config: Config, root: Path) -> None:
    files_of(root / config.folder, "train")


def class_names(schema: pa.Schema, labels: np.ndarray) -> list[str]:
    """The classes from the schema's metadata (`classes`, or Hugging Face's features), else the numbers as words."""
    metadata = schema.metadata or {}
    if b"classes" in metadata:
        text = metadata[b"classes"].decode()
        return json.loads(text) if text.startswith("[") else text.split(",")
    if b"huggingface" in metadata:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"].get("label", {})
        if "names" in feature:
            return feature["names"]
    return [str(number) for number in range(int(labels.max()) + 1 if len(labels) else 0)]


def load(config: Config, root: Path | None, split: str) -> Source:
    """The split's images in the files' order; pixels if `decode`, else the original bytes."""
    folder = (root or Path("data")) / config.folder
    try:
        tables = [pq.read_table(path, columns=["image", "label"], memory_map=True) for path in files_of(folder, split)]
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{folder}: a Parquet file is damaged or has other columns than image and label: {error}") from None
    table = pa.concat_tables(tables).combine_chunks()
    labels = table["label"].to_numpy().astype(np.int64)
    chosen = balanced(labels, config.per_class, config.split_seed) if split == "train" else np.arange(len(labels))
    classes = class_names(tables[0].schema, labels)
    if len(labels) and (labels.min() < 0 or labels.max() >= len(classes)):
        raise UserError(f"{folder}: labels reach from {labels.min()} to {labels.max()}, but there are {len(classes)} classes")
    images = table["image"].chunk(0)
    contents = images.field("bytes")

    def read(number: int) -> Sample:
        place = int(chosen[number])
        content = contents[place].as_py()
        source = f"{split}/{place}"
        return Sample(pixels(content, source) if config.decode else content, int(labels[place]), source)

    shape = list(read(0).image.shape) if config.decode else None
    rule = "official" if not config.per_class or split != "train" else f"{config.per_class} of each class, seed {config.split_seed}"
    listing = labels[chosen].tobytes() + b"".join(str(len(contents[int(i)].as_py())).encode() for i in chosen[:1000])
    return Source(classes, len(chosen), read, listing, rule, "uint8" if config.decode else "encoded", shape)


def pixels(content: bytes, source: str) -> np.ndarray:
    """An encoded image as uint8 3xHxW; UserError names it if it cannot be read."""
    try:
        return np.array(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)
    except (OSError, ValueError) as error:
        raise UserError(f"image {source} cannot be decoded: {error}") from None
