"""Prepared shards, memory-mapped and checked. N images, B batch, C channels, H x W pixels."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from PIL import Image
from torch import Tensor

from invp.data.masks import mask_of
from invp.data.tables import matrix
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json, read_table, sha256_of

HASHED_BYTES = 256 << 20  # shards up to this size in all are held against their digests when they are opened
RESIDENT_BYTES = 4 << 30  # sets of equal-sized images up to this size are kept whole on the device


def _checked_manifest(path: Path) -> dict:
    """The manifest of a split, its entries of the right kinds."""
    manifest = read_json(path)

    def whole(v):
        return type(v) is int and v >= 0

    kinds = {
        "num_samples": whole,
        "format": lambda v: v in ("uint8", "encoded"),
        "classes": lambda v: isinstance(v, list) and all(isinstance(name, str) for name in v),
        "shards": lambda v: (
            isinstance(v, list) and all(isinstance(s, dict) and {"file", "rows", "sha256"} <= set(s) for s in v) and v
        ),
    }
    for key, right in kinds.items():
        if not isinstance(manifest, dict) or not right(manifest.get(key)):
            raise UserError(f"{path}: '{key}' is missing or of the wrong kind; prepare the set again")
    shape = manifest.get("shape")
    known = (
        shape is None if manifest["format"] == "encoded" else isinstance(shape, list) and len(shape) == 3 and all(map(whole, shape))
    )
    if not known:
        raise UserError(f"{path}: 'shape' does not fit the format; prepare the set again")
    for shard in manifest["shards"]:
        if not isinstance(shard["file"], str) or ".." in Path(shard["file"]).parts or Path(shard["file"]).is_absolute():
            raise UserError(f"{path}: a shard's file lies outside the folder; prepare the set again")
    return manifest


class Shards:
    """A prepared split, or several of equal format and classes after one another: memory-mapped, or, for small images, views of the
    mapped pixels without a copy."""

    def __init__(self, folder: Path, *more: Path):
        self.folder = Path(folder)
        self.manifest = _checked_manifest(self.folder / "manifest.json")
        self.classes: list[str] = self.manifest["classes"]
        self.format: str = self.manifest["format"]
        self.shape: list[int] | None = self.manifest["shape"]
        self._tables: list[pa.Table] = []
        for each in (self.folder, *map(Path, more)):
            self._open(each, _checked_manifest(each / "manifest.json"))
        self._check_images()
        self._starts = np.cumsum([0, *(len(table) for table in self._tables)])
        self.num_samples = int(self._starts[-1])
        self._pixels = [self._view(table) for table in self._tables] if self.format == "uint8" else []
        self._resident: Tensor | None = None
        columns = [table["label"].fill_null(-1).to_numpy() for table in self._tables]
        self.labels = torch.from_numpy(np.concatenate(columns).astype(np.int64))
        self.multi_labels: Tensor | None = self._multi_labels()

    def _open(self, folder: Path, manifest: dict) -> None:
        """Adds the tables of a folder, if they are what its manifest says and of the same kind as the first's."""
        if [manifest[key] for key in ("classes", "format", "shape")] != [self.classes, self.format, self.shape]:
            raise UserError(f"{folder} and {self.folder} differ in classes, format or shape: they cannot be joined")
        paths = [folder / shard["file"] for shard in manifest["shards"]]
        tables = [read_table(path) for path in paths]
        rows = [len(table) for table in tables]
        if rows != [shard["rows"] for shard in manifest["shards"]] or sum(rows) != manifest["num_samples"]:
            raise UserError(f"{folder}: the shards do not hold the rows that manifest.json names; prepare it again")
        if sum(path.stat().st_size for path in paths) <= HASHED_BYTES:
            for path, shard in zip(paths, manifest["shards"], strict=True):
                if sha256_of(path) != shard["sha256"]:
                    raise UserError(f"{path} is not what manifest.json names: it was altered; prepare the set again")
        self._tables += tables

    def sources(self, numbers: Tensor | None = None) -> list[str]:
        """Where the images come from: names that are unique within a set; of all, or of the images `numbers`."""
        names = pa.chunked_array([chunk for table in self._tables for chunk in table["source"].chunks], pa.string())
        return (names if numbers is None else names.take(pa.array(numbers.numpy()))).to_pylist()

    def targets(self) -> dict[str, np.ndarray]:
        """The numbers that are known of each image, as pose or size: name -> N float32; empty for most sets."""
        names = self.manifest.get("targets", [])
        if not names:
            return {}
        values = np.concatenate([matrix(table, "targets") for table in self._tables])
        return dict(zip(names, values.T, strict=True))

    def _multi_labels(self) -> Tensor | None:
        """Of multi-label sets, NxC int8: 1 present, 0 absent, -1 present only as objects marked difficult."""
        if not all("labels" in table.column_names for table in self._tables):
            return None
        parts = [table["labels"].combine_chunks().flatten().to_numpy(zero_copy_only=False) for table in self._tables]
        return torch.from_numpy(np.concatenate(parts).astype(np.int8)).reshape(self.num_samples, len(self.classes))

    def boxes(self, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """The objects of an image: boxes nx4 (x1, y1, x2, y2 from 0, ends excluded), classes n, marked difficult n (bool)."""
        row = {name: self._value(name, number) for name in ("boxes", "box_labels", "difficult")}
        boxes = torch.tensor(row["boxes"], dtype=torch.float32).reshape(-1, 4)
        return boxes, torch.tensor(row["box_labels"], dtype=torch.long), torch.tensor(row["difficult"], dtype=torch.bool)

    @property
    def has_masks(self) -> bool:
        """Whether every image has a mask."""
        return all("mask" in table.column_names for table in self._tables)

    def mask(self, number: int) -> np.ndarray:
        """The class of each pixel of an image, HxW uint8: 0 the background, 1 + c the class c, 255 what does not count."""
        return mask_of(self._value("mask", number))

    def _value(self, column: str, number: int) -> Any:
        """What a column holds of an image, as an object of Python."""
        shard = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self._tables[shard][column][number - int(self._starts[shard])].as_py()

    def _check_images(self) -> None:
        for table in self._tables:
            kind = table.schema.field("image").type if "image" in table.column_names else None
            bytes_of_one = math.prod(self.shape) if self.shape else 0
            fits = kind == pa.binary(bytes_of_one) if self.format == "uint8" else kind in (pa.binary(), pa.large_binary())
            if not fits or "label" not in table.column_names:
                raise UserError(
                    f"{self.folder}: the shards do not hold images of the format and shape in manifest.json; prepare it again"
                )

    def _view(self, table: pa.Table) -> np.ndarray:
        """The pixels of a shard, rows x C x H x W, as they lie in the mapped file."""
        chunks = table["image"].chunks
        views = [np.frombuffer(c.buffers()[1], np.uint8, len(c) * c.type.byte_width, c.offset * c.type.byte_width) for c in chunks]
        return (views[0] if len(views) == 1 else np.concatenate(views)).reshape(-1, *self.shape)

    def images(self, index: Tensor, device: torch.device | str = "cpu") -> Tensor:
        """The images of the numbers `index` (B) as uint8 BxCxHxW on the device; for sets of equal-sized images."""
        device = torch.empty(0, device=device).device  # with its number: "cuda" is "cuda:0" here
        if self._resident is None or self._resident.device != device:
            total = self.num_samples * int(np.prod(self.shape))
            if total > RESIDENT_BYTES:
                return torch.from_numpy(self._gathered(index.numpy())).to(device)
            self._resident = torch.from_numpy(np.concatenate(self._pixels)).to(device)
        return self._resident[index.to(device, non_blocking=True)]

    def _gathered(self, index: np.ndarray) -> np.ndarray:
        result = np.empty((len(index), *self.shape), np.uint8)
        shard = np.searchsorted(self._starts, index, side="right") - 1
        for number in np.unique(shard):
            at = shard == number
            result[at] = self._pixels[number][index[at] - self._starts[number]]
        return result

    def encoded(self, number: int) -> bytes:
        """The encoded bytes of one photograph."""
        return self._value("image", number)

    def decoded(self, number: int) -> Image.Image:
        """One photograph as an RGB image; UserError names the split and the number if it cannot be read."""
        try:
            return Image.open(io.BytesIO(self.encoded(number))).convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            raise UserError(f"{self.folder}: image {number} cannot be decoded ({error}); prepare the set again") from None
