"""Checking artifacts against their records, and saying what a result depends on."""

import json
import sys
from pathlib import Path

from invp.errors import UserError
from invp.files import read_json, sha256_of
from invp.provenance import ROOT, code_digest, modules_of, step_modules, versions

# What the workflow keeps beside its artifacts and makes again at will.
NOT_ARTIFACTS = ("logs", "benchmarks", "README.md")
DATE_OF_FOLDER = ".snakemake_timestamp"  # Snakemake's own, in every folder that is an output


def records_under(folder: Path) -> list[Path]:
    """Every record below a folder, or beside a file, sorted."""
    folder = Path(folder)
    if folder.is_file():
        return [record for record in records_under(folder.parent) if any(_same(p, folder) for p in _outputs(read_json(record)))]
    if not folder.is_dir():
        raise UserError(f"{folder} does not exist")
    return sorted([*folder.rglob("record.json"), *folder.rglob("*.record.json")])


def _same(path: Path, other: Path) -> bool:
    return path.resolve() == other.resolve()


def _outputs(record: dict) -> list[Path]:
    return [Path(entry["path"]) for entry in record["outputs"].values()]


def _checked(path: Path) -> dict:
    record = read_json(path)
    if not isinstance(record, dict) or not {"step", "section", "code", "inputs", "outputs"} <= set(record):
        raise UserError(f"{path} is not a record")
    return record


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
            record = _checked(path)
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


def verify(folder: Path) -> int:
    """Prints every fault below a results folder; 1 if there is one, else 0."""
    faults, looked = faults_of(folder)
    for line in faults:
        print(line)
    if not looked:
        raise UserError(f"{folder} holds no records: is it a results folder?")
    print(f"{looked} artifacts checked, {len(faults)} faults", file=sys.stderr)
    return 1 if faults else 0


def made_with_other_versions(folder: Path) -> dict[Path, dict[str, tuple[str, str]]]:
    """Records whose versions of Python or a library are not those installed: name -> (then, now)."""
    now, found = versions(), {}
    for path in records_under(folder):
        then = _checked(path).get("versions", {})
        differences = {n: (then.get(n, "none"), now.get(n, "none")) for n in sorted({*then, *now}) if then.get(n) != now.get(n)}
        if differences:
            found[path] = differences
    return found


def outdated(folder: Path) -> int:
    """Prints, as options of snakemake, how to make again what other versions of the libraries made; nothing if there is none."""
    found = made_with_other_versions(folder)
    if not found:
        print("everything was made with the installed versions", file=sys.stderr)
        return 0
    differences = sorted({f"{name} {then} -> {now}" for each in found.values() for name, (then, now) in each.items()})
    print(f"{len(found)} results were made with other versions: {', '.join(differences)}", file=sys.stderr)
    print("--forcerun", *(str(path) for path in found))
    return 0


def why(path: Path) -> int:
    """Prints what a result depends on, and what would make it again."""
    found = records_under(path)
    if not found:
        raise UserError(f"no record describes {path}; give a file or folder that the workflow wrote under results/")
    for record_path in found:
        record = _checked(record_path)
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
    return 0


def _files(modules: list[str]) -> list[Path]:
    return [p for m in modules for p in [ROOT.joinpath(*m.split(".")).with_suffix(".py")] if p.exists()]
