"""Show what of a study is finished so far: its numbers, while the rest still runs."""

import argparse
from pathlib import Path

from invp.pages.numbers import last_stage, read_numbers
from invp.pages.tables import aligned
from invp.plumbing.experiments import load_study
from invp.plumbing.not_made import without_not_made
from invp.plumbing.studies import add_study, configuration_of, study_file
from invp.steps import summary

EXPERIMENTS = Path("config/experiments")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)


def run(arguments: argparse.Namespace) -> None:
    """Prints a row for each experiment, and how many of its trainings and evaluations are made."""
    path = study_file(arguments.study)
    study = load_study(configuration_of(path), str(path), EXPERIMENTS)
    print(aligned(*table_of(study, Path("results"))), end="")
    print(
        "Of each experiment the latest stage that has any of these numbers, at the epoch that is named; - is what was not made yet.\n"
        "A number of fewer seeds than the study has may still change."
    )


def table_of(study: dict, results: Path) -> tuple[list[str], list[list[str]]]:
    """The header and rows of what is finished below `results`: a file counts when its record, which is written last, is there."""
    section, found = summary.section(study), made(study, results)
    numbers = read_numbers(section, found)
    shown = [column for column in study["columns"] if any(f"{row.source}.{row.metric}" == column for row in numbers.rows)]
    rows = []
    for name, experiment in study["loaded"].items():
        seeds, stages = len(study["seeds"]), experiment["stages"]
        evaluated = stages if experiment["evaluate_stages"] == "all" else stages[-1:]
        wanted = seeds * len(evaluated) * len(experiment["evaluations"])
        trained, evaluations = (sum(_of(path) == name for path in found[kind]) for kind in ("curves", "metrics"))
        with_numbers = [s for s in stages if any(numbers.values(name, s, column) for column in shown)]
        stage = max(with_numbers, default=0)
        cells = [numbers.text(name, stage, column) if with_numbers else "-" for column in shown]
        at = f"{stage} of {last_stage(section, name)}" if with_numbers else "-"
        rows.append([name, f"{trained} of {seeds * len(stages)}", f"{evaluations} of {wanted}", at, *cells])
    return ["experiment", "stages trained", "evaluations", "epoch", *map(numbers.heading, shown)], rows


def made(study: dict, results: Path) -> dict[str, list[Path]]:
    """The files that are finished, by kind, as the summary's job gets them."""
    found: dict[str, list[Path]] = {"metrics": [], "graphs": [], "curves": []}
    for name, experiment in study["loaded"].items():
        for seed in study["seeds"]:
            run = results / name / f"seed-{seed}"
            for stage in experiment["stages"]:
                found["curves"].append(run / f"pretrain/stage-{stage}/metrics.jsonl")
                found["graphs"].append(run / f"graph/stage-{stage}/summary.json")
                found["metrics"] += [
                    run / f"evals/{evaluation}/stage-{stage}/metrics.json" for evaluation in experiment["evaluations"]
                ]
    finished = {kind: [p for p in paths if p.exists() and p.with_name("record.json").exists()] for kind, paths in found.items()}
    return without_not_made(finished)[0]


def _of(path: Path) -> str:
    """The experiment of a file below results/{experiment}/seed-{seed}."""
    return next(parent.parent.name for parent in path.parents if parent.name.startswith("seed-"))
