"""Say what a result depends on, and what would make it again."""

import argparse
import json
from pathlib import Path

from invp.plumbing.errors import UserError
from invp.plumbing.files import sha256_of
from invp.plumbing.provenance import ROOT, code_digest, modules_of, step_modules
from invp.plumbing.records import checked_record, records_under


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("path", type=Path, help="a file or folder under results/")


def run(arguments: argparse.Namespace) -> None:
    """Prints the dependencies of every result at the path."""
    path = arguments.path
    found = records_under(path)
    if not found:
        raise UserError(f"no record describes {path}; give a file or folder that the workflow wrote under results/")
    for record_path in found:
        record = checked_record(record_path)
        modules = modules_of(step_modules(record["step"], record["section"]))
        now = code_digest(step_modules(record["step"], record["section"]))
        print(f"{record_path}")
        print(f"  made by      {record['step']} at commit {(record['commit'] or '?')[:12]}{'' if record['clean'] else ' with changes'}"
              f" on {record['device']} in {record['seconds']} s, {record['started']}")  # fmt: skip
        print(f"  its section  {json.dumps(record['section'], sort_keys=True)}")
        print(
            f"  its code     {record['code']}, {'as it is now' if now == record['code'] else f'which is now {now}: it would run again'}"
        )
        for name, entry in record["inputs"].items():
            file = Path(entry["path"])
            state = (
                "gone"
                if not file.exists()
                else "as it was"
                if sha256_of(file) == entry["sha256"]
                else "changed since: it would run again"
            )
            print(f"  input        {name}: {file} ({state})")
        print("  would change it: another value in the section, other code (not comments or docstrings) in")
        print("    " + ", ".join(str(p.relative_to(ROOT)) for p in _files(modules)))
        print("  would not: comments, docstrings, formatting, profiles, other experiments, seeds or evaluations")


def _files(modules: list[str]) -> list[Path]:
    return [p for m in modules for p in [ROOT.joinpath(*m.split(".")).with_suffix(".py")] if p.exists()]
