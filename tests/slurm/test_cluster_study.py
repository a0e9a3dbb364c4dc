"""A whole study through the profile on a real SLURM: what its jobs asked for, and that its results are the local profile's."""

import json
from pathlib import Path

STUDY = "config/config.yaml"  # the default study


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


def test_the_digits_study_equals_the_local_one_and_its_jobs_asked_for_what_the_profile_says(slurm_project, new_project):
    new_project.snakemake("all", study=STUDY)
    slurm_project.slurm("all", study=STUDY)
    assert results(slurm_project.folder) == results(new_project.folder)
    jobs = slurm_project.jobs()
    assert {job["State"] for job in jobs} == {"COMPLETED"} and {job["Account"] for job in jobs} == {"lab"}
    counts = {rule: len(slurm_project.jobs(rule)) for rule in ("prepare", "pretrain", "graph", "features", "evaluate", "small")}
    assert counts == {"prepare": 2, "pretrain": 8, "graph": 8, "features": 8, "evaluate": 8, "small": 1}, counts
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
    assert (logs / "pretrain" / "digits-invp-seed-0-stage-15.log").exists()
    assert len(list(logs.glob("slurm/rule_pretrain/*/*.log"))) == 8
    assert "Nothing to be done" in slurm_project.slurm("all", study=STUDY)
