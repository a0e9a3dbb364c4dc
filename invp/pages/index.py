"""The page over all studies of a results folder: when each was made, what it found, and links to its pages.

It is made of what every report says of itself in report.json. Nothing depends on it, and it is no result: it has no record.
"""

import os
from pathlib import Path

from invp.pages.html import write_page
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_json


def made(pages: Path) -> str:
    """When the report in a study's folder was made, as '2026-11-26 16:40 UTC'; '' if its record does not say."""
    record = pages / "report.record.json"
    started = read_json(record).get("started", "") if record.exists() else ""
    return f"{started[:10]} {started[11:16]} UTC" if started else ""


def studies(results: Path) -> list[dict]:
    """What is listed of the studies below a results folder, the latest first; links are seen from that folder.

    Of the explorers those are listed that are there.
    """
    found = []
    for path in sorted(results.glob("studies/*/report.json")):
        pages, said = path.parent, read_json(path)
        runs = [
            {**run, "folder": os.path.relpath(pages / run["folder"], results)}
            for run in said["explorers"]
            if (pages / run["folder"] / "explorer.html").exists()
        ]
        found.append({**said, "explorers": runs, "folder": os.path.relpath(pages, results), "made": made(pages)})
    return sorted(found, key=lambda study: study["made"], reverse=True)


def write_index(results: Path) -> Path:
    """Writes index.html into a results folder; UserError if there is no such folder, or no study in it."""
    listed = studies(results)
    known = {study["folder"] for study in listed}
    pages = [os.path.relpath(path.parent, results) for path in sorted(results.glob("studies/*/report.html"))]
    if not listed:
        raise UserError(
            f"{results} holds no report of a study (studies/STUDY/report.json); the workflow makes one: snakemake ... all"
        )
    left_out = [Path(folder).name for folder in pages if folder not in known]
    write_page(results / "index.html", "index.html", studies=listed, left_out=left_out)
    return results / "index.html"
