"""Whether the present code reads a prepared split's images as they were read: some of them, from the raw data."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from invp.plumbing.config import data_root, instance
from invp.plumbing.files import read_json, read_table
from invp.plumbing.plugins import load_plugin
from invp.steps.prepare import shard_table

MOST = 200  # images that are read again, from the first to the last


def read_again(folder: Path, section: dict) -> tuple[int, str]:
    """How many images were compared with the shards in `folder`, and the first difference, or ''; UserError without the raw data."""
    options, manifest = section["dataset"], read_json(folder / "manifest.json")
    plugin = load_plugin("datasets", options["name"])
    source = plugin.load(instance(plugin.Config, options), data_root(), section["split"])
    said = {key: getattr(source, key) for key in ("format", "shape", "classes", "multi_label", "split_rule")}
    said |= {"targets": list(source.targets), "source_sha256": hashlib.sha256(source.listing).hexdigest()}
    said["num_samples"] = source.num_samples - len(manifest["skipped"])
    for key, value in said.items():
        if manifest[key] != value:
            return 0, f"{key} would be {value}, and is {manifest[key]}"
    numbers = np.unique(np.linspace(0, source.num_samples - 1, MOST).astype(int)).tolist()
    start = 0
    for shard in manifest["shards"]:
        table = read_table(folder / shard["file"])
        stop = start + options["rows_per_shard"]
        for number in (n for n in numbers if start <= n < stop):
            stored = table.filter(pc.field("index") == number)
            now = shard_table(source, range(number, number + 1))[0]
            if not now.equals(stored.replace_schema_metadata(None)):
                return len(numbers), f"image {number} is read otherwise than it was"
        start = stop
    return len(numbers), ""
