"""Accept results after an edit of code that changes no number, so that the workflow does not run them again."""

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from invp.plumbing.errors import UserError
from invp.plumbing.files import canonical_json, write_json
from invp.plumbing.golden import differences
from invp.plumbing.provenance import code_digest, step_modules
from invp.plumbing.records import adopted_record, checked_record, records_under
from invp.tools import _snakemake
from invp.tools._coverage import standing_for
from invp.tools._golden import Golden, on_the_cpu
from invp.tools._reread import read_again

PAGES = ("explorer", "summary", "report")  # quick to make, and no number is theirs
SAVED = "scratch-stage-*/partial.pt"  # the saved states of stages that have not ended


@dataclass
class Candidate:
    """A result of other code than that of now: its record, the digest of the code now, and what was checked to accept it.

    A saved state of a stage that has not ended is one too. Its record is made up: it has none.
    """

    path: Path
    record: dict
    code: str
    checked: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the paths."""
    parser.add_argument("path", type=Path, nargs="+", help="files or folders under results/, of which all or none are adopted")


def run(arguments: argparse.Namespace) -> None:
    """Adopts what lies at the paths; UserError, and nothing is changed, if a golden number changed or is missing."""
    on_the_cpu()
    _snakemake.refuse_while_running()
    records = {path: checked_record(path) for path in sorted({path for given in arguments.path for path in records_under(given)})}
    if not records:
        raise UserError(f"no record lies at {', '.join(map(str, arguments.path))}: give results that the workflow wrote")
    others = [Candidate(path, record, _code_now(path, record)) for path, record in records.items()]
    others = [each for each in others if each.code != each.record["code"]]
    not_made = [each.path for each in others if "not_made" in each.record]
    others = [each for each in others if each.path not in not_made]
    candidates = [each for each in others if each.record["step"] not in PAGES]
    saved, strangers = _saved_states(arguments.path, list(records.values()))
    _check(candidates + saved)
    for candidate in candidates:
        _accept(candidate)
    for candidate in saved:
        _accept_saved(candidate)
    for path, record in records.items():
        if "adopted" in record and path not in [each.path for each in candidates]:
            _remember(path, record)  # with copied results an older memory of Snakemake may have come
    _say(candidates + saved, [each.path for each in others if each.record["step"] in PAGES], not_made, strangers)


def _code_now(path: Path, record: dict) -> str:
    try:
        return code_digest(step_modules(record["step"], record["section"]))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _saved_states(paths: list[Path], records: list[dict]) -> tuple[list[Candidate], list[Path]]:
    """The saved states below the paths that could be taken over, and those that could not, of other code than that of now.

    What golden numbers stood for the code of one is only known from a finished result of the same code.
    """
    found, strangers = [], []
    for path in sorted({path for given in paths for path in given.rglob(SAVED)}):
        from invp.training.checkpoint import load_checkpoint

        state = load_checkpoint(path)
        record = {"step": "pretrain", "section": json.loads(state["section"]), "code": state["code"]}
        if (code := _code_now(path, record)) == state["code"]:
            continue
        for other in records:
            if other["step"] == "pretrain" and state["code"] in (other["code"], *(e["from"] for e in other.get("adopted", []))):
                same = {key: other[key] for key in ("golden", "committed") if key in other}
                found.append(Candidate(path, record | same, code))
                break
        else:
            strangers.append(path)
    return found, strangers


def _check(candidates: list[Candidate]) -> None:
    """Runs the golden cases that stand for the candidates, and reads prepared images again; UserError names every fault."""
    if not candidates:
        return
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        golden = Golden(Path(folder) / "golden")
        for candidate in candidates:
            candidate.checked, reason = standing_for(golden, candidate.record)
            faults += [f"{candidate.path}: {reason}"] if reason else []
        cases = [] if faults else sorted({case for candidate in candidates for case in candidate.checked})
        print(f"comparing the golden numbers of {len(cases)} cases for {len(candidates)} results", file=sys.stderr)
        for case in cases:
            faults += [f"golden number changed: {case}: {line}" for line in differences(case, golden.numbers(case))]
    for candidate in candidates if not faults else []:
        if candidate.record["step"] == "prepare":
            number, fault = read_again(candidate.path.parent, candidate.record["section"])
            candidate.checked = [*candidate.checked, f"{number} images read again"]
            faults += [f"{candidate.path}: {fault}"] if fault else []
    if faults:
        raise UserError("nothing was adopted:\n  " + "\n  ".join(faults))


def _accept(candidate: Candidate) -> None:
    """Rewrites the record and keeps its date, so that nothing seems newer; Snakemake's memory first, as that may be done twice."""
    path, status = candidate.path, candidate.path.stat()
    record = adopted_record(candidate.record, candidate.code, candidate.checked)
    _remember(path, record)
    write_json(path, record)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _remember(path: Path, record: dict) -> None:
    """Makes Snakemake know the outputs of an adopted record by the code that it was adopted for."""
    earlier = {entry["from"] for entry in record["adopted"]}
    _snakemake.replace_code(_snakemake.outputs(path, record), earlier, record["code"])


def _accept_saved(candidate: Candidate) -> None:
    """Makes a saved state one of the present code, so that the next start goes on from it."""
    from invp.training.checkpoint import load_checkpoint, save_checkpoint

    state = load_checkpoint(candidate.path)
    section, _, parent = json.loads(state["fingerprint"])
    state |= {"code": candidate.code, "fingerprint": canonical_json([section, candidate.code, parent])}
    save_checkpoint(state, candidate.path)


def _say(accepted: list[Candidate], pages: list[Path], not_made: list[Path], strangers: list[Path]) -> None:
    kinds = Counter((each.record["step"], each.record["code"], each.code) for each in accepted)
    for (step, before, now), number in kinds.items():
        print(f"adopted {number} of {step}: code {before} -> {now}")
    if pages:
        print(f"not adopted, since the workflow makes pages again in seconds: {', '.join(map(str, pages))}")
    if not_made:
        print(f"not adopted, since they were not made and other code may make them: {', '.join(map(str, not_made))}")
    for path in strangers:
        print(f"not adopted, since no finished result of its code lies at the paths: {path}; its stage starts again")
    if accepted and not _snakemake.remembers():
        print("there is no .snakemake in this folder: a workflow that starts here knows these results by their dates alone")
    if not accepted and not pages and not not_made and not strangers:
        print("nothing to adopt: all was made by the code as it is now")
