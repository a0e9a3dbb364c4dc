"""Shards on the node's own disk, where the shared file system is slow to read in random order.

Only if INVP_NODE_SCRATCH names a folder; variables in it, such as $TMPDIR, are those of the job. What is read changes nothing.
"""

import fcntl
import os
import shutil
import sys
from pathlib import Path

from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json, sha256_of

SPARE = 1 << 30  # bytes that stay free


def staged(folder: Path) -> Path:
    """The prepared split `folder`, or its copy on the node's disk, made once for all jobs there; UserError if it has no room."""
    asked = os.environ.get("INVP_NODE_SCRATCH")
    if not asked:
        return folder
    manifest = folder / "manifest.json"
    copy = Path(os.path.expandvars(asked)) / f"invp-{os.getuid()}" / sha256_of(manifest)[:16]
    copy.parent.mkdir(parents=True, exist_ok=True)
    with open(copy.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (copy / "manifest.json").exists():
            names = [shard["file"] for shard in read_json(manifest)["shards"]]
            needed, free = sum((folder / name).stat().st_size for name in names), shutil.disk_usage(copy.parent).free
            if needed + SPARE > free:
                raise UserError(
                    f"{copy.parent} (INVP_NODE_SCRATCH) has {free / 1e9:.1f} GB free, and {folder} needs {needed / 1e9:.1f}: "
                    "name another folder, or unset it to read the shards where they are"
                )
            print(f"copying {needed / 1e9:.2f} GB of shards to {copy}", file=sys.stderr, flush=True)
            for name in names:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, copy / name)
            shutil.copyfile(manifest, copy / "manifest.json.new")
            os.rename(copy / "manifest.json.new", copy / "manifest.json")
    return copy
