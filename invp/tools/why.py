"""Say what a result depends on, and what would make it again."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from invp.plumbing.config import data_root
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_table, sha256_of
from invp.plumbing.provenance import ROOT, code_digest, module_file, modules_of, step_modules
from invp.plumbing.raw_data import FILE, state_of
from invp.plumbing.records import checked_record, is_as_used, records_under


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the path."""
    parser.add_argument("path", type=Path, help="a file or folder under results/")


def run(arguments: argparse.Namespace) -> None:
    """Prints what every result at the path depends on."""
    records = records_under(arguments.path)
    if not records:
        raise UserError(f"no record describes {arguments.path}; give a file or folder that the workflow wrote under results/")
    for path in records:
        print(path)
        print(*(f"  {line}" for line in _explained(path, checked_record(path))), sep="\n")


def _explained(path: Path, record: dict) -> Iterator[str]:
    """The lines about the result of the record at `path`."""
    roots = step_modules(record["step"], record["section"])
    now = code_digest(roots)
    state = "as it is now" if now == record["code"] else f"which is now {now}: it would run again"
    changes = "" if record["clean"] else " with changes"
    yield (
        f"made by      {record['step']} at commit {(record['commit'] or '?')[:12]}{changes} on {record['device']} "
        f"in {record['seconds']} s, {record['started']}"
    )
    if "not_made" in record:
        yield f"not made     {record['not_made']}"
    yield f"its section  {json.dumps(record['section'], sort_keys=True)}"
    yield f"its code     {record['code']}, {state}"
    for entry in record.get("adopted", []):
        yield f"adopted      {entry['at']}: code {entry['from']} -> {entry['to']}, after a check of {', '.join(entry['checked'])}"
    for name, entry in record["inputs"].items():
        yield f"input        {name}: {entry['path']} ({_state_of(entry)})"
    if record["step"] == "prepare" and (line := _raw_data(path, record["section"])):
        yield f"raw data     {line}"
    yield "would change it: another value in the section, other code (not comments or docstrings) in"
    yield "  " + ", ".join(str(file.relative_to(ROOT)) for module in modules_of(roots) if (file := module_file(module)))
    yield "would not: comments, docstrings, formatting, profiles, other experiments, seeds or evaluations"


def _raw_data(path: Path, section: dict) -> str:
    """How the raw data of a prepared split is now; '' for a set that has none."""
    listing = path.with_name(FILE)
    if listing.exists() and not read_table(listing).num_rows:
        return ""
    state = state_of(path.parent, section["dataset"], section["split"], data_root())
    return {"same": "as it was"}.get(state.kind, state.text) + (": prepare would run again" if state.prepares else "")


def _state_of(entry: dict) -> str:
    file = Path(entry["path"])
    if not file.exists():
        return "gone"
    return "as it was" if is_as_used(file, entry["sha256"], sha256_of(file)) else "changed since: it would run again"
