"""Check every artifact below a folder against its record and its inputs."""

import argparse
import sys
from pathlib import Path

from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json, sha256_of
from invp.plumbing.records import checked_record, records_under

# What the workflow keeps beside its artifacts and makes again at will.
NOT_ARTIFACTS = ("logs", "benchmarks", "README.md")
DATE_OF_FOLDER = ".snakemake_timestamp"  # Snakemake's own, in every folder that is an output


def _shard_faults(manifest: Path) -> list[str]:
    faults = []
    for shard in read_json(manifest)["shards"]:
        path = manifest.parent / shard["file"]
        if not path.exists():
            faults.append(f"missing    {path} (a shard of {manifest})")
        elif sha256_of(path) != shard["sha256"]:
            faults.append(f"altered    {path} (a shard of {manifest})")
    return faults


def faults_of(folder: Path) -> tuple[list[str], int]:
    """A line for every fault below a results folder, and the number of artifacts that were looked at.

    Found are files that are missing, cut short or altered, inputs that changed after they were used, and files that no record knows.
    """
    faults, known, looked = [], set(), 0
    hashes: dict[Path, str] = {}
    for path in records_under(folder):
        known.add(path.resolve())
        try:
            record = checked_record(path)
        except UserError as error:
            faults.append(f"damaged    {error}")
            continue
        for kind in ("outputs", "inputs"):
            for entry in record[kind].values():
                file = Path(entry["path"])
                if kind == "outputs":
                    known.add(file.resolve())
                    looked += 1
                if not file.exists():
                    if kind == "outputs":
                        faults.append(f"missing    {file} (output of {path})")
                    continue  # an intermediate that was pruned is no fault
                if file.stat().st_size < entry["bytes"] and kind == "outputs":
                    faults.append(f"truncated  {file}: {file.stat().st_size} of {entry['bytes']} bytes")
                    continue
                digest = hashes.setdefault(file.resolve(), "") or sha256_of(file)
                hashes[file.resolve()] = digest
                if digest != entry["sha256"]:
                    word = "altered    " if kind == "outputs" else "stale      "
                    suffix = "" if kind == "outputs" else f" changed after {path} used it"
                    faults.append(f"{word}{file}{suffix}")
        if record["step"] == "prepare" and (manifest := path.parent / "manifest.json").exists():
            try:
                shard_faults = _shard_faults(manifest)
                known |= {(manifest.parent / s["file"]).resolve() for s in read_json(manifest)["shards"]}
                faults += shard_faults
            except (UserError, KeyError, TypeError) as error:
                faults.append(f"damaged    {manifest} ({error})")
    faults += _orphans(Path(folder), known)
    return sorted(set(faults)), looked


def _orphans(folder: Path, known: set[Path]) -> list[str]:
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
    parser.add_argument("path", type=Path, nargs="?", default=Path("results"))


def run(arguments: argparse.Namespace) -> int:
    """Prints every fault below a results folder; 1 if there is one, else 0."""
    folder = arguments.path
    faults, looked = faults_of(folder)
    for line in faults:
        print(line)
    if not looked:
        raise UserError(f"{folder} holds no records: is it a results folder?")
    print(f"{looked} artifacts checked, {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0
