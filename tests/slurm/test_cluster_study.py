"""A whole study through the profile on a real SLURM: what its jobs asked for, and that its results are the local profile's."""

import json
from pathlib import Path

import pytest

SMOKE, DEFAULT = "config/studies/smoke.yaml", "config/config.yaml"
TRAININGS = {SMOKE: 4, DEFAULT: 8}  # stages of all experiments


def results(folder: Path) -> dict[str, object]:
    """Every number of a finished study: losses, graphs and metrics, without times and records."""
    found = {}
    for path in sorted((folder / "results").rglob("metrics.json")) + sorted((folder / "results").rglob("graph/*/summary.json")):
        content = json.loads(path.read_text())
        found[str(path.relative_to(folder))] = {key: content[key] for key in ("metrics", "measures") if key in content}
    for path in sorted((folder / "results").rglob("metrics.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        found[str(path.relative_to(folder))] = [{k: row[k] for k in ("epoch", "loss", "views")} for row in rows]
    return found


@pytest.mark.parametrize("study", [SMOKE, pytest.param(DEFAULT, marks=pytest.mark.slow)])
def test_a_study_equals_the_local_one_and_its_jobs_asked_for_what_the_profile_says(study, slurm_project, finished, new_project):
    if study == DEFAULT:
        new_project.snakemake("all", study=study)
    local = finished if study == SMOKE else new_project
    slurm_project.slurm("all", study=study)
    assert results(slurm_project.folder) == results(local.folder)
    jobs = slurm_project.jobs()
    assert {job["State"] for job in jobs} == {"COMPLETED"} and {job["Account"] for job in jobs} == {"lab"}
    counts = {rule: len(slurm_project.jobs(rule)) for rule in ("prepare", "pretrain", "graph", "features", "evaluate", "small")}
    assert counts == {**dict.fromkeys(counts, TRAININGS[study]), "prepare": 2, "small": 1}, counts
    assert len(jobs) == sum(counts.values())
    asked = {rule: {(j["Partition"], j["TimelimitRaw"], j["ReqTRES"]) for j in slurm_project.jobs(rule)} for rule in counts}
    gpu = "billing=1,cpu=1,gres/gpu=1,mem={},node=1"
    assert asked["prepare"] == {("cpu", "720", "billing=1,cpu=1,mem=4000M,node=1")}
    assert asked["pretrain"] == {("gpu", "1440", gpu.format("16000M"))}
    assert asked["features"] == {("gpu", "240", gpu.format("8000M"))}
    assert asked["evaluate"] == {("gpu", "720", gpu.format("16000M"))}
    assert next(iter(asked["small"]))[0] == "cpu"
    # A user looks for a job's words under results/logs/RULE, and for SLURM's beside them.
    logs = slurm_project.folder / "results" / "logs"
    assert len(list(logs.glob("pretrain/*-invp-seed-0-stage-*.log"))) >= 2
    assert len(list(logs.glob("slurm/rule_pretrain/*/*.log"))) == TRAININGS[study]
    assert "Nothing to be done" in slurm_project.slurm("all", study=study)
