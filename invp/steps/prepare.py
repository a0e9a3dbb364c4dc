"""Write a split of a data set as Arrow shards with a manifest."""

import argparse
import hashlib
import io
import math
import os
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from invp.data.masks import IGNORED, mask_of
from invp.datasets._photos import LARGEST, first_sizes
from invp.datasets._source import BadImage, Sample, Source
from invp.plumbing import raw_data
from invp.plumbing.config import data_root, instance
from invp.plumbing.errors import UserError
from invp.plumbing.files import canonical_json, read_json, sha256_of, write_json, write_tables
from invp.plumbing.jobs import Job, add_workers
from invp.plumbing.plugins import load_plugin
from invp.plumbing.progress import Progress
from invp.plumbing.provenance import versions

AT_ONCE = 32  # photographs that a thread holds


def loads(section: dict) -> list[str]:
    """The data set's module, and those of the sets that it is made of."""
    options, found = section["dataset"], []
    while options:
        found.append(f"invp.datasets.{options['name']}")
        options = options.get("of")
    return found


def section(study: dict, *, dataset: str, split: str) -> dict:
    """A data set's options and the split."""
    return {"dataset": study["datasets"][dataset], "split": split}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what the step is told of its machine."""
    add_workers(parser)


def run(job: Job) -> None:
    """Writes the split beside the manifest that the job names, and which raw data it was; that lies in INVP_DATA.

    The listing is made before anything is read, and kept when all is written: the raw data of a prepare that failed has changed still.
    """
    options, split, root, out = job.section["dataset"], job.section["split"], data_root(), job.outputs["manifest"].parent
    listing = raw_data.listed(options, root, split)
    write_split(options, split, root, out, job.arguments.workers, job.code)
    raw_data.keep(out, options, split, raw_data.with_contents(listing, root))


def shard_table(source: Source, numbers: range) -> tuple[pa.Table, list[dict], list[dict]]:
    """The shard of these images (index, image, label, source, and what else the set has), the images left out, and those converted."""
    kept, samples, skipped = [], [], []
    for number in numbers:
        try:
            sample = source.read(number)
            if source.masks:
                check_mask(sample, len(source.classes))
            samples.append(sample)
            kept.append(number)
        except BadImage as error:
            skipped.append({"index": number, "source": error.source, "reason": error.reason})
    converted = [{"source": s.source, "reason": s.converted} for s in samples if s.converted and s.converted != "short side"]
    if source.format == "uint8":
        pixels = np.empty((len(samples), *source.shape), np.uint8)
        for row, sample in enumerate(samples):
            if list(sample.image.shape) != source.shape or sample.image.dtype != np.uint8:
                raise UserError(f"{sample.source} has shape {sample.image.shape}, where {source.shape} was expected")
            pixels[row], sample.image = sample.image, b""  # what was copied need not be kept
        images = pa.Array.from_buffers(pa.binary(math.prod(source.shape)), len(samples), [None, pa.py_buffer(pixels)])
    else:
        images = pa.array([sample.image for sample in samples], pa.binary())
    columns = {
        "index": pa.array(kept, pa.int64()),
        "image": images,
        "label": pa.array([sample.label for sample in samples], pa.int32()),
        "source": pa.array([sample.source for sample in samples], pa.string()),
    }
    if source.multi_label:
        columns["labels"] = pa.array([sample.labels for sample in samples], pa.list_(pa.int8(), len(source.classes)))
        columns["boxes"] = pa.array([sample.boxes for sample in samples], pa.list_(pa.list_(pa.float32(), 4)))
        columns["box_labels"] = pa.array([sample.box_labels for sample in samples], pa.list_(pa.int32()))
        columns["difficult"] = pa.array([sample.difficult for sample in samples], pa.list_(pa.bool_()))
    if source.masks:
        columns["mask"] = pa.array([sample.mask for sample in samples], pa.binary())
    if source.targets:
        columns["targets"] = pa.array([sample.targets for sample in samples], pa.list_(pa.float32(), len(source.targets)))
    return pa.table(columns), skipped, converted


def check_mask(sample: Sample, num_classes: int) -> None:
    """BadImage unless the mask is a PNG of the image's size, whose numbers are 0, those of the classes from 1 on, or 255."""
    try:
        mask = mask_of(sample.mask)
    except (OSError, ValueError) as error:
        raise BadImage(sample.source, f"its mask cannot be read ({error})") from None
    size = Image.open(io.BytesIO(sample.image)).size
    if mask.shape != size[::-1]:
        raise BadImage(sample.source, f"it has {size[0]}x{size[1]} pixels, and its mask {mask.shape[1]}x{mask.shape[0]}")
    if unknown := sorted(set(np.unique(mask[mask != IGNORED])) - set(range(num_classes + 1))):
        raise BadImage(sample.source, f"its mask has the number {unknown[0]}; valid: 0 to {num_classes}, and {IGNORED}")


def parts_of(source: Source, numbers: range, found: dict) -> Iterator[pa.Table]:
    """The tables of a shard's images, a few encoded ones at a time, so that no thread holds a whole shard of photographs.

    Adds the rows, the images of each class, those left out and those converted to `found`.
    """
    step = AT_ONCE if source.format == "encoded" else len(numbers)  # pixels are views of one block in the file
    for start in range(0, len(numbers), step):
        table, skipped, converted = shard_table(source, numbers[start : start + step])
        found["rows"] += len(table)
        found["counts"] = [a + b for a, b in zip(found["counts"], class_counts(table, len(source.classes)), strict=True)]
        found["skipped"] += skipped
        found["converted"] += converted
        yield table


def refuse(faults: list[dict]) -> None:
    """UserError for images that cannot be used: the first twenty, and how many there are."""
    if len(faults) == 1:
        raise BadImage(faults[0]["source"], faults[0]["reason"])
    lines = [f"  {fault['source']}: {fault['reason']}" for fault in faults[:20]]
    lines += [f"  and {len(faults) - 20} more"] if len(faults) > 20 else []
    advice = "on_bad_image: skip leaves such images out and lists them"
    raise UserError("\n".join([f"{len(faults)} images cannot be used; {advice}:", *lines]))


def class_counts(table: pa.Table, num_classes: int) -> list[int]:
    """Images of each class in a shard; of several labels, those in which the class is present."""
    if "labels" in table.column_names:
        values = table["labels"].combine_chunks().flatten().to_numpy(zero_copy_only=False).reshape(-1, num_classes)
        return [int(n) for n in (values == 1).sum(0)]
    return [int(n) for n in np.bincount(table["label"].drop_null().to_numpy(), minlength=num_classes)]


def manifest_of(source: Source, dataset: str, split: str, shards: list[dict]) -> dict:
    """What the source and its shards make of the manifest; UserError if no image is left."""
    counts = np.sum([shard["counts"] for shard in shards], axis=0).tolist()
    skipped, converted = ([image for shard in shards for image in shard[key]] for key in ("skipped", "converted"))
    num_samples = source.num_samples - len(skipped)
    if not num_samples:
        raise UserError(
            f"{dataset}, split {split}: every image was left out; the first, {skipped[0]['source']}: {skipped[0]['reason']}"
        )
    return {
        "dataset": dataset,
        "split": split,
        "num_samples": num_samples,
        "format": source.format,
        "shape": source.shape,
        "classes": source.classes,
        "multi_label": source.multi_label,
        "targets": list(source.targets),
        "counts": dict(zip(source.classes, counts, strict=True)),
        "skipped": skipped,
        "converted": converted,
        "ignored": source.ignored,
        "shards": [{key: shard[key] for key in ("file", "rows", "sha256")} for shard in shards],
        "split_rule": source.split_rule,
    }


def write_split(options: dict, split: str, root: Path | None, out: Path, workers: int = 1, code: str = "") -> None:
    """Writes the shards of a split into the folder `out`/shards and, last, its manifest into `out`.

    `options` are a data set's, with its `name`. Shards are written in `out`/scratch and moved when all are there; one that an
    interrupted run of the same options, code and source left whole is kept.
    """
    dataset = options["name"]
    scratch, final = out / "scratch", out / "shards"
    plugin = load_plugin("datasets", dataset)
    if split not in plugin.SPLITS:
        raise UserError(f"{dataset} has no split '{split}'; it has {', '.join(plugin.SPLITS)}")
    source = plugin.load(instance(plugin.Config, options), root, split)
    if not source.num_samples:
        raise UserError(f"{dataset}, split {split}, holds no image")
    source_sha256 = hashlib.sha256(source.listing).hexdigest()
    fingerprint = hashlib.sha256(canonical_json([options, split, source_sha256, code]).encode()).hexdigest()
    size = options["rows_per_shard"]
    ranges = [range(start, min(start + size, source.num_samples)) for start in range(0, source.num_samples, size)]
    progress = Progress(f"{dataset}-{split}", source.num_samples)

    def write(number: int) -> dict:
        path = scratch / f"shard-{number:05d}.arrow"
        done = scratch / f"shard-{number:05d}.json"
        entry = read_json(done) if done.exists() else {}
        if entry.get("fingerprint") != fingerprint or not path.exists() or sha256_of(path) != entry["sha256"]:
            found = {"rows": 0, "counts": [0] * len(source.classes), "skipped": [], "converted": []}
            write_tables(path, parts_of(source, ranges[number], found))
            entry = {"fingerprint": fingerprint, "file": f"shards/{path.name}", "sha256": sha256_of(path), **found}
            skipped = found["skipped"]
            if skipped and not source.skip_bad:
                done.unlink(missing_ok=True)  # the images may be mended without a change of their names and sizes
            else:
                write_json(done, entry)
        progress.update(len(ranges[number]))
        return entry

    with ThreadPoolExecutor(max(1, workers)) as pool:
        shards = list(pool.map(write, range(len(ranges))))
    progress.close()
    if not source.skip_bad and (faults := [image for shard in shards for image in shard["skipped"]]):
        refuse(faults)
    manifest = manifest_of(source, dataset, split, shards)
    manifest |= {"source_sha256": source_sha256, "section": options, "versions": versions()}
    for entry in scratch.iterdir():
        if entry.name not in {Path(shard["file"]).name for shard in shards}:
            entry.unlink()
    shutil.rmtree(final, ignore_errors=True)
    os.rename(scratch, final)
    write_json(out / "manifest.json", manifest)
    say(source, manifest, out)


def say(source: Source, manifest: dict, out: Path) -> None:
    """Says on the terminal what was not used or was changed, and what would be read faster."""
    dataset, split, options = manifest["dataset"], manifest["split"], manifest["section"]
    skipped, converted = len(manifest["skipped"]), len(manifest["converted"])
    if source.ignored:
        counts = ", ".join(f"{count} {kind}" for kind, count in source.ignored.items())
        print(f"{dataset}, split {split}: not used: {counts} (`ignored` in {out}/manifest.json)", file=sys.stderr)
    sizes = list(first_sizes(source)) if split == "train" and options.get("decode") is False else []
    if len(sizes) == 1 and max(sizes[0]) <= LARGEST:
        print(
            f"{dataset}: the images have {sizes[0][0]}x{sizes[0][1]} pixels; decode: true in the section `dataset` keeps pixels, which "
            "training reads several times as fast; evaluations then take whole images, not their central crops",
            file=sys.stderr,
        )
    if skipped or converted:
        print(f"{out}/manifest.json lists {skipped} images that were left out and {converted} converted", file=sys.stderr)
