"""What a study's files and this package determine, kept between starts of Snakemake: options, sections, digests of code.

To work them out anew imports torch and every plug-in of the study. On a cluster each job starts Snakemake again.
"""

import copy
import hashlib
import importlib.metadata
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from invp.plumbing.errors import UserError
from invp.plumbing.files import canonical_json, read_json, write_json
from invp.plumbing.plugins import PACKAGE

KEPT = 10  # files: one for each study and state of the code that was used last


class Memo:
    """Values by name, in a file whose name is a digest of all that they may depend on: the package, Python, files and options.

    Values are JSON. What they are made of must lie in `files` or `options`, or be part of their name.
    """

    def __init__(self, folder: Path, files: Iterable[Path], options: Any):
        package = [path for path in sorted(PACKAGE.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
        named = [(str(path.relative_to(PACKAGE)), path) for path in package] + [(path.name, path) for path in files]
        contents = [(name, hashlib.sha256(path.read_bytes()).hexdigest()) for name, path in named]
        libraries = sys.version, importlib.metadata.version("omegaconf")
        digest = hashlib.sha256(canonical_json([contents, libraries, options]).encode()).hexdigest()
        self.path = folder / f"{digest[:32]}.json"
        self.changed = False
        try:
            self.values = read_json(self.path) if self.path.exists() else {}
        except UserError:  # damaged: it is written anew
            self.values = {}

    def __call__(self, name: str, make: Callable[[], Any]) -> Any:
        """The value of this name, which `make` gives if it is not there; a copy, which may be changed."""
        if name not in self.values:
            self.values[name] = json.loads(canonical_json(make()))
            self.changed = True
        return copy.deepcopy(self.values[name])

    def save(self) -> None:
        """Writes what is new, and removes the files that were written longest ago; nothing where the folder cannot be written."""
        if not self.changed:
            return
        try:
            write_json(self.path, self.values)
            others = sorted(self.path.parent.glob("*.json"), key=lambda path: path.stat().st_mtime)
            for path in others[:-KEPT]:
                path.unlink(missing_ok=True)
        except OSError:
            pass
        self.changed = False
