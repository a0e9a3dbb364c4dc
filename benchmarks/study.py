"""Keeps the numbers of a finished study as JSON, with devices, versions and commits of the trainings as their records name them.

Run: `python -m benchmarks.study results/studies/cifar10-two-cores --json FILE`. It runs nothing; make the
study first. Of the stages before the last one, measures of the graph and of the training are kept too.
"""

import argparse
import csv
import sys
from pathlib import Path

from invp.plumbing.files import read_json, write_json

KEYS = ("device", "threads", "versions", "commit", "clean")


def numbers(summary: Path) -> dict[str, dict]:
    """Experiment, seed and stage, as EXPERIMENT/seed-S/stage-E, -> its metrics by source and name."""
    found: dict[str, dict] = {}
    with open(summary, encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["value"]:
                run = found.setdefault(f"{row['experiment']}/seed-{row['seed']}/stage-{row['stage']}", {})
                interval = {key: float(row[key]) for key in ("images", "low", "high") if row[key]}
                run[f"{row['source']}.{row['metric']}"] = (
                    {"value": float(row["value"]), **interval} if interval else float(row["value"])
                )
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("study", type=Path, help="its folder below results/studies")
    parser.add_argument("--json", type=Path, required=True, help="the file to write")
    arguments = parser.parse_args()
    found = numbers(arguments.study / "summary.csv")
    trainings = []
    for run in found:
        experiment, seed, stage = run.split("/")
        record = read_json(arguments.study.parents[1] / experiment / seed / "pretrain" / stage / "record.json")
        about = {key: record[key] for key in KEYS}
        if about not in trainings:
            trainings.append(about)
    write_json(arguments.json, {"study": arguments.study.name, "trainings": trainings, "runs": found})
    return 0


if __name__ == "__main__":
    sys.exit(main())
