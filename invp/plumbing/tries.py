"""The log of each try of a job, and mistakes that another try cannot mend. Snakemake deletes a job's log before each try."""

import os
from pathlib import Path

from invp.plumbing.errors import AGAIN

LASTS = " (the try before ended so; another one cannot mend it)"


def _log_of(log: Path, attempt: int) -> Path:
    return log.with_name(f"{log.name}.try-{attempt}")


def keep_log(log: Path, attempt: int) -> None:
    """Gives the log, into which this process writes, a second name that Snakemake does not delete; where the disk has no such links, not."""
    kept = _log_of(log, attempt)
    try:
        kept.unlink(missing_ok=True)
        os.link(log, kept)
    except OSError:
        pass


def drop_log(log: Path, attempt: int) -> None:
    """Takes the second name away: of a try that succeeded the log itself stays."""
    _log_of(log, attempt).unlink(missing_ok=True)


def lasting_mistake(log: Path, attempt: int) -> str:
    """What to say of the user's mistake that ended the try before this one; empty if another try may mend it, or there was none."""
    try:
        lines = _log_of(log, attempt - 1).read_text(errors="replace").splitlines()
    except OSError:
        return ""
    mistakes = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    return mistakes[-1].removesuffix(LASTS) + LASTS if mistakes and not mistakes[-1].endswith(AGAIN) else ""
