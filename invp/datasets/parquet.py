"""Parquet files in the layout of the Hugging Face hub: a column `image: {bytes, path}` and a column `label`."""

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from invp.datasets._photos import Files, PhotoConfig, source_of_files
from invp.datasets._source import Sample, Source
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

SPLITS = ("train", "test", "val", "unlabelled")


@dataclass
class Config(PhotoConfig):
    """Files `{split}-*.parquet`."""

    folder: str = option("", "under the data root")
    decode: bool = option(False, "keep pixels instead of encoded bytes, for equal-sized images up to 64 px")


def files_of(folder: Path, split: str) -> list[Path]:
    """The split's files in order; UserError says what is expected where."""
    found = sorted(folder.glob(f"{split}-*.parquet"))
    if not found:
        raise UserError(f"{folder} holds no {split}-*.parquet; give the data root in INVP_DATA (or data_root in the profile)")
    return found


def has_split(config: Config, root: Path, split: str) -> bool:
    """Whether there are files of this split; only `train` must be there."""
    return any((root / config.folder).glob(f"{split}-*.parquet"))


def check_root(config: Config, root: Path) -> None:
    files_of(root / config.folder, "train")


def class_names(folder: Path) -> list[str]:
    """The classes of every split, from train: of its schema's metadata (`classes`, or Hugging Face's features), else its numbers."""
    files = [pq.ParquetFile(path, memory_map=True) for path in files_of(folder, "train")]
    metadata = files[0].schema_arrow.metadata or {}
    if b"classes" in metadata:
        text = metadata[b"classes"].decode()
        return json.loads(text) if text.startswith("[") else text.split(",")
    if b"huggingface" in metadata:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"].get("label", {})
        if "names" in feature:
            return feature["names"]
    largest = max((pc.max(file.read(["label"])["label"]).as_py() or 0 for file in files), default=0)
    return [str(number) for number in range(largest + 1)]


def load(config: Config, root: Path | None, split: str) -> Source:
    """The split's images in the files' order; pixels if `decode`, else the original bytes. Without a column `label`: unlabelled."""
    folder = (root or Path("data")) / config.folder
    try:
        files = [pq.ParquetFile(path, memory_map=True) for path in files_of(folder, split)]
        columns = [name for name in ("image", "label") if name in files[0].schema_arrow.names]
        table = pa.concat_tables([file.read(columns) for file in files]).combine_chunks()
        contents = table["image"].chunk(0).field("bytes")
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(
            f"{folder}: a Parquet file is damaged or has other columns than image {{bytes, path}} and label: {error}"
        ) from None
    labels = table["label"].to_numpy().astype(np.int64) if "label" in columns else None
    classes = [] if labels is None else class_names(folder)
    names = [f"{split}/{i}" for i in range(len(contents))]
    sizes = pc.binary_length(contents).to_pylist()
    source = source_of_files(Files(names, labels, lambda i: contents[i].as_py(), sizes), classes, config, split, "official")
    if not config.decode:
        return source
    read = source.read

    def decoded(number: int) -> Sample:
        sample = read(number)
        sample.image = pixels(sample.image, sample.source)
        return sample

    return replace(source, read=decoded, format="uint8", shape=list(decoded(0).image.shape))


def pixels(content: bytes, source: str) -> np.ndarray:
    """An encoded image as uint8 3xHxW; UserError names it if it cannot be read."""
    try:
        return np.array(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)
    except (OSError, ValueError) as error:
        raise UserError(f"image {source} cannot be decoded: {error}") from None
