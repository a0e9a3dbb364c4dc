"""How long it takes to list a folder of a million images, before any is read.

Run: `python -m benchmarks.listing` (`--classes 1000 --each 1000`). The files are empty; a listing reads names and sizes only.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from invp.datasets import image_folder
from invp.plumbing.config import instance, plugin_options

LIMIT = 120.0  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--each", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for number in range(arguments.classes):
            folder = Path(root) / "set" / "train" / f"n{number:08d}"
            folder.mkdir(parents=True)
            for i in range(arguments.each):
                (folder / f"{folder.name}_{i}.JPEG").touch()
        options = plugin_options("datasets", {"name": "image_folder", "folder": "set"}, "benchmark")
        started = time.perf_counter()
        source = image_folder.load(instance(image_folder.Config, options), Path(root), "train")
        seconds = time.perf_counter() - started
    print(f"{source.num_samples:,} images of {len(source.classes)} classes listed in {seconds:.1f} s (limit: {LIMIT:.0f})")
    return int(seconds > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
