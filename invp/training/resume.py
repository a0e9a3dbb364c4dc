"""Taking up a training that was left inside a stage: the first process decides, and all agree."""

import sys
from pathlib import Path

from invp.plumbing.errors import AGAIN, UserError
from invp.training.checkpoint import load_checkpoint
from invp.training.distributed import Group, on_any_process, said_by_first


def state_to_resume(path: Path, fingerprint: str, group: Group) -> dict | None:
    """The partial checkpoint if it is of this fingerprint (section, code, parent), else None; why is said once.

    Every process calls it. UserError on all of them if one does not read what the first one does.
    """
    state, reason = _read(path, fingerprint) if group.first else (None, "")
    if reason:
        print(f"ignoring a partial checkpoint: {reason}", file=sys.stderr, flush=True)
    place = said_by_first(None if state is None else (state["epoch"], state["step"]))
    if place is None:
        return None
    if not group.first:
        state, reason = _read(path, fingerprint)
        if state is None:
            reason = reason or "it is not there"
        elif (state["epoch"], state["step"]) != place:
            reason = f"it is of epoch {state['epoch'] + 1}, after step {state['step']}"
    if any(on_any_process(bool(reason))):
        own = f" (process {group.rank}: {reason})" if reason else ""
        raise UserError(
            f"{path}: not every process reads there what the first one does, epoch {place[0] + 1} after step {place[1]}{own}. "
            f"Give all nodes the same results folder, on a file system that shows them the same files, {AGAIN}"
        )
    return state


def _read(path: Path, fingerprint: str) -> tuple[dict | None, str]:
    """The state, or None and the reason that it is not taken up; no reason where there is no file."""
    if not path.exists():
        return None, ""
    try:
        state = load_checkpoint(path)
    except UserError as error:
        return None, str(error)
    if state.get("fingerprint") != fingerprint:
        return None, f"{path} comes from other code, options or another parent checkpoint"
    return state, ""
