"""What Snakemake remembers of a job, so that it agrees with a record that was adopted: the parameters of each output."""

import os
from pathlib import Path

from invp.plumbing.errors import UserError

FOLDER = Path(".snakemake")  # of the working folder, as the paths in records are


def remembers() -> bool:
    """Whether a workflow has run in the working folder."""
    return (FOLDER / "metadata").is_dir()


def refuse_while_running() -> None:
    """UserError while a workflow holds its lock on the working folder."""
    if any((FOLDER / "locks").glob("*.lock")):
        raise UserError("a workflow runs in this folder, or was killed there (snakemake --unlock): adopt results when it has ended")


def outputs(record_path: Path, record: dict) -> list[str]:
    """The outputs of the job as the workflow names them: the record, what it lists, and the folder of shards."""
    listed = [entry["path"] for entry in record["outputs"].values()]
    folder = [str(Path(listed[0]).parent / "shards")] if record["step"] == "prepare" else []
    return [os.path.relpath(record_path), *listed, *folder]


def replace_code(names: list[str], earlier: set[str], code: str) -> int:
    """Puts the code digest `code` in place of `earlier` ones among the parameters of outputs; returns of how many.

    `snakemake.persistence` is read and written as Snakemake itself does at the end of a job: there is no other way to it outside of a
    run. Parameters are kept as the sorted list of their `repr`.
    """
    if not remembers():
        return 0
    from snakemake.persistence.file import FilePersistence

    memory, changed = FilePersistence(path=FOLDER.absolute()), 0
    for name in names:
        entry = memory._read_record(name)
        if entry is None or not entry.params:
            continue
        parameters = sorted(repr(code) if value in map(repr, earlier) else value for value in entry.params)
        if parameters != entry.params:
            entry.params = parameters
            memory._write_record(name, entry)
            changed += 1
    return changed
