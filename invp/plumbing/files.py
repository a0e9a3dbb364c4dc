"""Atomic writes, and readers that say what is wrong with a damaged file."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa

from invp.plumbing.errors import UserError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that replaces it, flushed to disk, when the block ends without an error.

    What a process of this machine left there that was killed while it wrote is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    own = f".{path.name}.{os.uname().nodename}-"
    for other in path.parent.iterdir():
        if other.name.startswith(own) and other.suffix == ".tmp" and not _lives(other.name.removeprefix(own)[:-4]):
            other.unlink(missing_ok=True)
    temporary = path.with_name(f"{own}{os.getpid()}.tmp")
    try:
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _lives(pid: str) -> bool:
    """Whether a process of this machine has the number, or what stands in its place is none."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (PermissionError, ValueError):
        pass
    return True


# A list without text, lists or objects, as json.dumps indents it: an entry a line.
NUMBERS = re.compile(r"\[\n[^\[\]{}\"]*\]")


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spare blanks, so that equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def json_text(value: Any) -> str:
    """`value` as the indented JSON of our files, a list of numbers on one line; NaN and infinity raise ValueError."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    return NUMBERS.sub(lambda found: " ".join(found[0].split()).replace("[ ", "[").replace(" ]", "]"), text) + "\n"


def write_json(path: Path, value: Any) -> None:
    """Writes `value` as indented JSON, atomically; NaN and infinity raise ValueError."""
    with atomic_path(path) as temporary:
        temporary.write_text(json_text(value), encoding="utf-8")


def read_json(path: Path) -> Any:
    """The value in a JSON file; UserError if it is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({error}): delete it and run the workflow again") from None


def with_record(schema: pa.Schema, record: dict | None) -> pa.Schema:
    """The schema with `record` as JSON in its metadata under `invp`."""
    return schema if record is None else schema.with_metadata({"invp": canonical_json(record)})


def write_table(path: Path, table: pa.Table, record: dict | None = None) -> None:
    """Writes an Arrow IPC file, atomically, with the record in the schema's metadata."""
    write_tables(path, iter([table]), record)


def write_tables(path: Path, tables: Iterator[pa.Table], record: dict | None = None) -> None:
    """Writes tables of one schema (at least one), each as it comes, one after another into an Arrow IPC file, atomically."""
    first = next(tables)
    with atomic_path(path) as temporary, pa.ipc.new_file(temporary, with_record(first.schema, record)) as writer:
        writer.write_table(first)
        for table in tables:
            writer.write_table(table)


def read_table(path: Path) -> pa.Table:
    """A memory-mapped Arrow IPC file, validated; UserError if it is missing, cut short or altered."""
    try:
        with pa.memory_map(str(path)) as source:
            table = pa.ipc.open_file(source).read_all()
        table.validate(full=True)
        return table
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (pa.ArrowException, OSError, ValueError) as error:
        raise UserError(f"{path} is not a whole Arrow file ({error}): delete it and run the workflow again") from None


def table_record(table: pa.Table) -> dict:
    """The record that `write_table` put into the metadata; {} if there is none."""
    return json.loads((table.schema.metadata or {}).get(b"invp", b"{}"))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
