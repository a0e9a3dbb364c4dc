"""Raw data as it was when a split was prepared of it: the names, sizes and times of its files, and what has changed since.

`prepare` keeps this listing beside the manifest; the workflow compares it at every start. It is no output that later steps read.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from invp.plumbing.config import instance
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_table, sha256_of, table_record, write_table
from invp.plumbing.plugins import load_plugin

FILE = "raw.arrow"  # of the folder of a prepared split
SHOWN = 3  # of the files of a kind of change, so many are named
SCHEMA = pa.schema([("name", pa.binary()), ("size", pa.int64()), ("modified", pa.int64()), ("sha256", pa.binary(32))])


def below(folder: str | Path, endings: tuple[str, ...] = ("",)) -> Iterator[str]:
    """The paths of the folders, and of the files with one of these endings, at any depth in a folder, through links.

    Hidden ones are left out. Without such a folder there are none.
    """

    def enter(path: str, above: tuple[tuple[int, int], ...]) -> Iterator[str]:
        about = os.stat(path)
        here = (about.st_dev, about.st_ino)
        if here in above:
            return  # a link to a folder above itself, which loading the set refuses
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    yield entry.path
                    yield from enter(entry.path, (*above, here))
                elif entry.name.lower().endswith(endings):
                    yield entry.path

    if os.path.isdir(folder):
        yield from enter(os.fspath(folder), ())


def raw_paths(options: dict, root: Path, split: str) -> Iterable[str | Path]:
    """What a split is read from: the plug-in's `raw_files`; without one all that lies in its `folder`; without that nothing."""
    plugin = load_plugin("datasets", options["name"])
    config = instance(plugin.Config, options)
    if hasattr(plugin, "raw_files"):
        return plugin.raw_files(config, root, split)
    return below(root / config.folder) if hasattr(config, "folder") else ()


def listed(options: dict, root: Path, split: str) -> pa.Table:
    """The raw data of a split, sorted by name: of files size and time (in ns) count, of folders the name alone, which ends with '/'.

    Names count from the data root. No content is read: `sha256` is empty.
    """
    return _listed(raw_paths(options, root, split), root)


def _listed(paths: Iterable[str | Path | bytes], root: Path) -> pa.Table:
    names, sizes, times, before = [], [], [], os.fsencode(f"{root}/")
    for path in sorted(set(map(os.fsencode, paths))):
        try:
            about = os.stat(path)
        except OSError:
            continue
        name, folder = path.removeprefix(before), stat.S_ISDIR(about.st_mode)
        names.append(name + b"/" if folder else name)
        sizes.append(0 if folder else about.st_size)
        times.append(0 if folder else about.st_mtime_ns)
    return pa.table([names, sizes, times, pa.nulls(len(names), pa.binary(32))], schema=SCHEMA)


def with_contents(listing: pa.Table, root: Path) -> pa.Table:
    """The listing with the SHA-256 of its files; that of a file which changed after it was listed stays empty."""
    names, sizes, times = (listing[key].to_pylist() for key in ("name", "size", "modified"))

    top = os.fsencode(root)

    def digest(row: int) -> bytes | None:
        path = os.path.join(top, names[row])
        try:
            found = None if names[row].endswith(b"/") else bytes.fromhex(sha256_of(path))
            about = os.stat(path)
        except OSError:
            return None
        return found if (about.st_size, about.st_mtime_ns) == (sizes[row], times[row]) else None

    parts = [range(start, min(start + 1000, len(names))) for start in range(0, len(names), 1000)]
    with ThreadPoolExecutor(8) as pool:
        digests = [each for part in pool.map(lambda rows: [digest(row) for row in rows], parts) for each in part]
    return listing.set_column(3, "sha256", pa.array(digests, pa.binary(32)))


def fingerprint(listing: pa.Table) -> str:
    """A digest of the names, sizes and times of a listing, in hexadecimal."""
    return hashlib.sha256(repr([listing[key].to_pylist() for key in ("name", "size", "modified")]).encode()).hexdigest()


def keep(folder: Path, options: dict, split: str, listing: pa.Table) -> None:
    """Writes the listing into the folder of a prepared split."""
    write_table(folder / FILE, listing, {"dataset": options, "split": split})


@dataclass
class State:
    """How the raw data of a split stands to what was prepared of it, in a word and in a line.

    `kind` is same; touched (other times, equal contents); changed; gone (nothing is left of it); unlisted (nothing was kept to compare
    with); or unfinished (a prepare that failed left nothing but the listing). `listing` is what `keep` should keep from now on.
    """

    kind: str
    text: str = ""
    listing: pa.Table | None = field(default=None, repr=False)

    @property
    def prepares(self) -> bool:
        """Whether the split must be prepared again."""
        return self.kind in ("changed", "unfinished")


def state_of(folder: Path, options: dict, split: str, root: Path) -> State:
    """Compares the raw data with what was kept in the folder of a prepared split. Contents are read of files whose time alone changed.

    Of a split that was not prepared yet, or with other options, the state is `same`: it is prepared anyway.
    """
    path, prepared = folder / FILE, (folder / "manifest.json").exists()
    if path.exists() and not prepared and not (folder / "record.json").exists():
        return State("unfinished", "was not prepared to the end")
    if not path.exists() and not prepared:
        return State("same")
    kept = read_table(path) if path.exists() else SCHEMA.empty_table()
    if path.exists() and table_record(kept) != {"dataset": options, "split": split}:
        return State("same")
    try:
        now, fault = listed(options, root, split), ""
    except (UserError, OSError, ValueError) as error:  # such as a list of labels that is gone, or has a wrong line
        now, fault = _listed(_paths(kept["name"].to_pylist(), root), root), f"; {error}"
    if not path.exists():
        return State("unlisted", "was not listed when it was prepared", now) if len(now) else State("same")
    columns = ["name", "size", "modified"]
    if not fault and kept.select(columns).equals(now.select(columns)):
        return State("same")
    if _files(kept["name"].to_pylist()) and not _files(now["name"].to_pylist()):
        return State("gone", f"is no longer under {root}")
    return _compared(kept, now, root, fault)


def _paths(names: list[bytes], root: Path) -> list[bytes]:
    return [os.path.join(os.fsencode(root), name) for name in names]


def _files(names: list[bytes]) -> list[bytes]:
    return [name for name in names if not name.endswith(b"/")]


def _rows(listing: pa.Table) -> dict[bytes, tuple[int, int, bytes | None]]:
    names, *values = (listing[key].to_pylist() for key in SCHEMA.names)
    return dict(zip(names, zip(*values, strict=True), strict=True))


def _compared(kept: pa.Table, now: pa.Table, root: Path, fault: str) -> State:
    """The state where something differs: changed, or touched. Contents are read only if they decide it."""
    then, here = _rows(kept), _rows(now)
    both = [name for name in here if name in then]
    later = [name for name in both if here[name][0] == then[name][0] and here[name][1] != then[name][1]]
    changes = {
        "deleted": [name for name in then if name not in here],
        "added": [name for name in here if name not in then],
        "changed": [name for name in both if here[name][0] != then[name][0]],
    }
    if not fault and not any(changes.values()):
        read = _rows(with_contents(_listed(_paths(later, root), root), root))
        changes["changed"] = [name for name in later if then[name][2] is None or read[name][2] != then[name][2]]
        later = [] if changes["changed"] else later
    if fault or any(changes.values()):
        changes["with another time"] = later
        return State("changed", f"changed since it was prepared: {_said(changes)}{fault}")
    contents = pa.array([then[name][2] for name in here], pa.binary(32))
    text = f"has {len(later):,} files with another time and the same content"
    return State("touched", text, now.set_column(3, "sha256", contents))


def _said(changes: dict[str, list[bytes]]) -> str:
    """The first files of each kind of change, with counts."""
    parts = []
    for kind, names in changes.items():
        names = _files(names) or names
        shown = [name.decode("utf-8", "backslashreplace") for name in names[:SHOWN]]
        if names:
            parts.append(f"{len(names):,} {kind} ({', '.join(shown)}{', ...' if len(names) > SHOWN else ''})")
    return ", ".join(parts)
