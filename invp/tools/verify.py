"""Check every artifact below a folder against its record and its inputs."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

from invp.plumbing.config import data_root
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json, sha256_of
from invp.plumbing.raw_data import FILE, state_of
from invp.plumbing.records import checked_record, is_as_used, records_under

# What the workflow keeps beside its artifacts and makes again at will.
NOT_ARTIFACTS = ("logs", "benchmarks", "README.md", "index.html")
DATE_OF_FOLDER = ".snakemake_timestamp"  # Snakemake's own, in every folder that is an output


def _shard_faults(manifest: Path) -> tuple[list[str], set[Path]]:
    """A line for every shard that is not what the manifest names, and the files that it names."""
    faults, named = [], set()
    try:
        for shard in read_json(manifest)["shards"]:
            path = manifest.parent / shard["file"]
            named.add(path.resolve())
            if not path.exists():
                faults.append(f"missing    {path} (a shard of {manifest})")
            elif sha256_of(path) != shard["sha256"]:
                faults.append(f"altered    {path} (a shard of {manifest})")
    except (UserError, KeyError, TypeError) as error:
        faults.append(f"damaged    {manifest} ({error})")
    return faults, named


def _output_fault(entry: dict, path: Path, digest: Callable[[Path], str]) -> str:
    """What is wrong with an output of the record at `path`, or ''."""
    file = Path(entry["path"])
    if not file.exists():
        return f"missing    {file} (output of {path})"
    if file.stat().st_size < entry["bytes"]:
        return f"truncated  {file}: {file.stat().st_size} of {entry['bytes']} bytes"
    return "" if digest(file) == entry["sha256"] else f"altered    {file}"


def _input_fault(entry: dict, path: Path, digest: Callable[[Path], str]) -> str:
    """What is wrong with an input of the record at `path`, or ''; one that is gone was an intermediate, which may be pruned."""
    file = Path(entry["path"])
    if not file.exists() or is_as_used(file, entry["sha256"], digest(file)):
        return ""
    return f"stale      {file} changed after {path} used it"


def _raw_fault(path: Path, section: dict) -> str:
    """What is wrong with the raw data of the split whose record lies at `path`, or ''; raw data that is gone was an input, which may be."""
    try:
        state = state_of(path.parent, section["dataset"], section["split"], data_root())
    except UserError as error:
        return f"damaged    {error}"
    return f"stale      {path.parent}: its raw data {state.text}" if state.prepares else ""


def faults_of(folder: Path) -> tuple[list[str], int]:
    """A line for every fault below a results folder, and the number of artifacts that were looked at.

    Found are files that are missing, cut short or altered, inputs and raw data that changed after they were used, and files that no
    record knows.
    """
    faults, known, looked = [], set(), 0
    digest = cache(sha256_of)  # an input is another record's output
    for path in records_under(folder):
        known.add(path.resolve())
        try:
            record = checked_record(path)
        except UserError as error:
            faults.append(f"damaged    {error}")
            continue
        outputs = record["outputs"].values()
        known |= {Path(entry["path"]).resolve() for entry in outputs}
        looked += len(outputs)
        faults += [_output_fault(entry, path, digest) for entry in outputs]
        faults += [_input_fault(entry, path, digest) for entry in record["inputs"].values()]
        if record["step"] == "prepare" and (manifest := path.parent / "manifest.json").exists():
            lines, named = _shard_faults(manifest)
            faults += [*lines, _raw_fault(path, record["section"])]
            known |= {*named, path.with_name(FILE).resolve()}
    faults += _orphans(Path(folder), known)
    return sorted(set(filter(None, faults))), looked


def adopted_below(folder: Path) -> list[str]:
    """A line for each kind of results below a folder that were made by other code and adopted, with both digests."""
    kinds: Counter[tuple[str, str, str]] = Counter()
    for path in records_under(folder):
        try:
            record = checked_record(path)
        except UserError:
            continue
        for entry in record.get("adopted", []):
            kinds[record["step"], entry["from"], entry["to"]] += 1
    return [f"adopted    {number} of {step}: code {before} -> {now}" for (step, before, now), number in sorted(kinds.items())]


def _orphans(folder: Path, known: set[Path]) -> list[str]:
    """A line for every file below a folder that is not among the known ones, nor kept beside them by the workflow."""
    orphans = []
    for file in folder.rglob("*"):
        inside = file.relative_to(folder)
        if not file.is_file() or file.resolve() in known or inside.parts[0] in NOT_ARTIFACTS:
            continue
        if file.name == DATE_OF_FOLDER or any(part.startswith("scratch") for part in inside.parts):
            continue
        orphans.append(f"orphaned   {file}: no record knows it")
    return orphans


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the folder."""
    parser.add_argument("path", type=Path, nargs="?", default=Path("results"))


def run(arguments: argparse.Namespace) -> int:
    """Prints what was adopted below a results folder, and every fault; 1 if there is one, else 0."""
    folder = arguments.path
    faults, looked = faults_of(folder)
    for line in [*adopted_below(folder), *faults]:
        print(line)
    if not looked:
        raise UserError(f"{folder} holds no records: is it a results folder?")
    print(f"{looked} artifacts checked, {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0
