"""Parquet files in the layouts of the Hugging Face hub: a column of images, `{bytes, path}` or plain bytes, and one of labels."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from invp.datasets._photos import Files, PhotoConfig, as_pixels, source_of_files
from invp.datasets._source import Source
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

SPLITS = ("train", "test", "val", "unlabelled")


@dataclass
class Config(PhotoConfig):
    """Files `{split}-*.parquet`, in `folder` or `folder`/data, or `{split}/*.parquet`, in `folder` or a folder of it."""

    folder: str = option("", "under the data root")
    image: str = option("image", "the column of images: {bytes, path}, or bytes", filled=True)
    label: str = option("label", "the column of labels; empty: none")
    decode: bool = option(False, "keep pixels instead of encoded bytes, for equal-sized images up to 64 px")


def found_in(folder: Path, split: str) -> list[Path]:
    """The split's files in order, of the first of the layouts that has any; UserError if several folders have some."""
    for pattern in (f"{split}-*.parquet", f"data/{split}-*.parquet", f"{split}/*.parquet", f"*/{split}/*.parquet"):
        found = sorted(folder.glob(pattern))
        if len(places := sorted({path.parent for path in found})) > 1:
            raise UserError(f"{' and '.join(map(str, places[:2]))} both hold split {split}; give one set's folder as `folder`")
        if found:
            return found
    return []


def files_of(folder: Path, split: str) -> list[Path]:
    """The split's files in order; UserError says what is expected where."""
    if found := found_in(folder, split):
        return found
    raise UserError(
        f"{folder} holds no {split}-*.parquet, nor data/ and {split}/ with some; "
        "give the data root in INVP_DATA (or data_root in the profile)"
    )


def has_split(config: Config, root: Path, split: str) -> bool:
    """Whether there are files of this split; only `train` must be there."""
    return bool(found_in(root / config.folder, split))


def has_labels(config: Config, root: Path, split: str) -> bool:
    """Whether the files of a split have the column of labels."""
    return bool(config.label) and config.label in opened(files_of(root / config.folder, split)[0]).schema_arrow.names


def check_root(config: Config, root: Path) -> None:
    files_of(root / config.folder, "train")


def raw_files(config: Config, root: Path, split: str) -> list[Path]:
    """The split's files, and those of train, which know the classes."""
    return [*found_in(root / config.folder, split), *found_in(root / config.folder, "train")]


def opened(path: Path) -> pq.ParquetFile:
    """A file as it lies on the disk; UserError if it is damaged."""
    try:
        return pq.ParquetFile(path, memory_map=True)
    except (pa.ArrowException, OSError) as error:
        raise UserError(f"{path} is no whole Parquet file: {error}") from None


def class_names(folder: Path, label: str) -> list[str]:
    """The classes of every split, from train: of Hugging Face's features, its metadata's `classes`, or its numbers."""
    files = [opened(path) for path in files_of(folder, "train")]
    metadata = files[0].schema_arrow.metadata or {}
    if b"huggingface" in metadata:
        feature = json.loads(metadata[b"huggingface"])["info"]["features"].get(label, {})
        if "names" in feature:
            return feature["names"]
    if b"classes" in metadata:
        text = metadata[b"classes"].decode()
        return json.loads(text) if text.startswith("[") else text.split(",")
    largest = max((pc.max(file.read([label])[label]).as_py() or 0 for file in files), default=0)
    return [str(number) for number in range(largest + 1)]


def columns_of(config: Config, names: list[str], where: str) -> list[str]:
    """The columns to read: the images, and the labels if there are any. UserError names the columns that there are."""
    there = f"its columns are {', '.join(names)}"
    if config.image not in names:
        raise UserError(f"{where} has no column '{config.image}' of images; {there}; set image: to one of them")
    if config.label in names:
        return [config.image, config.label]
    like = [name for name in names if name.endswith("label")]
    if config.label not in ("", "label") or (config.label and like):
        raise UserError(f"{where} has no column '{config.label}' of labels; {there}; set label: to one of them, or to '' for none")
    return [config.image]


def load(config: Config, root: Path | None, split: str) -> Source:
    """The split's images in the files' order; pixels if `decode`, else the original bytes. Without a column of labels: unlabelled."""
    folder = (root or Path("data")) / config.folder
    try:
        paths = files_of(folder, split)
        files = [pq.ParquetFile(path, memory_map=True) for path in paths]
        columns = columns_of(config, files[0].schema_arrow.names, str(paths[0]))
        table = pa.concat_tables([file.read(columns) for file in files])
        chunks = [pc.struct_field(c, "bytes") if pa.types.is_struct(c.type) else c for c in table[config.image].chunks]
        sizes = [size or 0 for chunk in chunks for size in pc.binary_length(chunk).to_pylist()]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise UserError(
            f"{folder}: a Parquet file is damaged, or its images are neither {{bytes, path}} nor bytes: {error}"
        ) from None
    labels = None
    if len(columns) > 1:
        column = table[config.label]
        if not pa.types.is_integer(column.type) or column.null_count:
            kind = f"{column.null_count} empty values" if column.null_count else f"type {column.type}"
            raise UserError(f"{folder}: column '{config.label}' has {kind}; labels must be whole numbers, or set label: ''")
        labels = column.to_numpy().astype(np.int64)
    starts = np.cumsum([0, *(len(chunk) for chunk in chunks)])

    def read(number: int) -> bytes:
        chunk = int(np.searchsorted(starts, number, side="right")) - 1
        return chunks[chunk][number - int(starts[chunk])].as_py() or b""

    classes = [] if labels is None else class_names(folder, config.label)
    names = [f"{split}/{i}" for i in range(len(table))]
    source = source_of_files(Files(names, labels, read, sizes), classes, config, split, "official")
    return as_pixels(source) if config.decode else source
