"""What a study would cost: against numbers worked out by hand, and measured ones where there are any."""

import argparse
import json
import re
from pathlib import Path

import pytest
from PIL import Image

from invp.plumbing.errors import UserError
from invp.tools import _estimates, plan
from tests.conftest import ROOT, fresh

DRY_RUN = """
rule features:
    input: results/e/seed-0/pretrain/stage-2/checkpoint.pt, results/datasets/d/train/manifest.json
    output: results/e/seed-0/features/stage-2/d-train.arrow, results/e/seed-0/features/stage-2/d-train.record.json
    resources: tmpdir=<TBD>, mem_mb=8000, gpu=1
Shell command: python -m invp features --section '{"title":"it'"'"'s","seed":0}' --code 1 > log 2>&1

group job small (jobs in lexicogr. order):

    rule pretrain:
        input: results/datasets/d/train/manifest.json
        output: results/e/seed-0/pretrain/stage-2/checkpoint.pt
        resources: processes=4, nodes=2, gpu=4, runtime=1440
    Shell command: python -m invp pretrain --section '{"seed":0}' --code 1 > log 2>&1
"""


def test_jobs_are_read_from_a_dry_run():
    features, pretrain = plan.parsed(DRY_RUN)
    assert (features.rule, features.section, features.gpus) == ("features", {"title": "it's", "seed": 0}, 1)
    assert features.inputs[1] == "results/datasets/d/train/manifest.json" and len(features.outputs) == 2
    assert (pretrain.rule, pretrain.step, pretrain.gpus, pretrain.limit) == ("pretrain", "pretrain", 8, 24)


def test_a_dry_run_that_lists_nothing_is_no_plan_of_no_jobs(monkeypatch):
    """As with `logger: rich` in a profile."""
    monkeypatch.setattr(plan.subprocess, "run", lambda *a, **k: plan.subprocess.CompletedProcess(a, 0, "Job stats\ntotal 25\n", ""))
    with pytest.raises(UserError, match="profiles/local may name a 'logger'"):
        plan.jobs_of(ROOT / "config/studies/smoke.yaml", None, Path("profiles/local"))


def test_a_job_that_exceeds_its_rules_limit_is_said():
    jobs = [
        _estimates.Job("evaluate_part", {}, [name], pending=True, hours=hours, limit=12) for name, hours in (("a", 11), ("b", 13))
    ]
    jobs += [_estimates.Job("features", {}, ["c"], pending=False, hours=30, limit=4)]
    jobs += [_estimates.Job("pretrain", {}, ["d"], pending=True, hours=80, gpus=4, limit=24)]
    (line,) = plan.over_limit(jobs)
    assert line.startswith("1 of evaluate_part would take longer than the 12 hours") and "13 (b)" in line


def test_the_critical_path_is_the_longest_chain_of_what_is_left_to_do():
    one = _estimates.Job("pretrain", {}, ["a"], [], gpus=2, pending=True, hours=4)
    two = _estimates.Job("pretrain", {}, ["b"], ["a"], gpus=2, pending=True, hours=6)
    other = _estimates.Job("features", {}, ["c"], ["a"], pending=True, hours=2.5)
    done = _estimates.Job("graph", {}, ["d"], ["b"], pending=False, hours=100)
    jobs = [done, other, two, one]
    by_output = {path: job for job in jobs for path in job.outputs}
    assert plan.critical_path(jobs, by_output) == 5
    two.pending = False
    assert plan.critical_path(jobs, by_output) == 4.5


def test_times_and_sizes_are_in_the_units_that_people_use():
    assert [plan.duration(seconds / 3600) for seconds in (0.2, 59.6, 109, 7500)] == ["0 s", "1 min 0 s", "1 min 49 s", "2 h 5 min"]
    assert plan.duration(80) == "3.3 days" and plan.duration(47.9) == "47 h 54 min"
    assert [plan.size(g) for g in (0.0432, 1.23, 258)] == ["43 MB", "1.2 GB", "258 GB"] and plan.size(1e-4) == "< 1 MB"


def test_without_a_gpu_a_plan_reckons_with_the_cores(monkeypatch, capsys):
    """Two trainings of 36 s of counted operations on two cores, then what needs both: three quarters of a minute with their starts."""
    operations = 36 * _estimates.ON_CPU / 8
    jobs = [_estimates.Job("pretrain", {}, [name], pending=True, threads=1) for name in "ab"]
    jobs.append(_estimates.Job("report", {}, ["c"], ["a", "b"], pending=True, threads=1))
    monkeypatch.setattr(plan, "jobs_of", lambda *given: jobs)
    monkeypatch.setattr(plan, "on_gpu", lambda job: job.rule == "pretrain")
    monkeypatch.setattr(plan, "cores", lambda: 2)
    monkeypatch.setattr(plan, "devices_of", lambda environment: [])
    monkeypatch.setattr(
        _estimates.Estimator, "_pretrain", lambda self, job, made: (operations / self.machine.operations, 1e6, "assumed")
    )
    monkeypatch.setattr(plan, "study_file", Path)
    plan.run(argparse.Namespace(study="study.yaml", data_root=None, profile=ROOT / "profiles/local"))
    words = capsys.readouterr().out
    seconds = 36 + 2 * _estimates.LOCAL_START
    assert f"3 jobs, 7 MB on disk, about {plan.duration(seconds / 3600)} on this machine (2 cores, no GPU)." in words
    assert "0.0625 TFLOP/s (no GPU, 1 thread a job, not measured)" in words and "GPU-hours" not in words


def test_operations_of_resnet_50_are_those_of_its_paper():
    """4.1e9 multiply-adds at 224 px, 25.6 million parameters, less the last layer's two."""
    encoder = {"name": "resnet50", "stem": "imagenet", "norm": "batch", "width": 64, "blocks": 2, "zero_init_residual": False}
    head = {"kind": "linear", "dimensions": 128}
    operations, parameters, features, dimensions = _estimates.network(json.dumps(encoder), json.dumps(head), 224)
    assert operations == pytest.approx(2 * 4.1e9, rel=0.02)
    assert parameters == pytest.approx(23.5e6 + 2048 * 128, rel=0.01)
    assert (features, dimensions) == (2048, 128)


def test_a_finished_study_is_measured_and_another_seed_of_it_too(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    words = project.python("invp", "plan", "config/studies/smoke.yaml", CUDA_VISIBLE_DEVICES="")
    assert "\n0 jobs, " in words and "about 0 s on this machine" in words and "assumed" not in words.split("jobs, ")[0]
    assert "GPU-hours" not in words, "here is none"
    project.edit("config/studies/smoke.yaml", "seeds: [0]", "seeds: [0, 1]")
    words = project.python("invp", "plan", "config/studies/smoke.yaml", CUDA_VISIBLE_DEVICES="")
    row = next(line for line in words.splitlines() if line.startswith("pretrain"))
    assert "4 of 8" in row and "8 measured" in row
    records = [json.loads(p.read_text()) for p in (project.folder / "results").glob("*/seed-0/pretrain/*/record.json")]
    assert re.split(r"\s{2,}", row)[2] == plan.duration(sum(r["seconds"] for r in records) / 3600)


def test_the_imagenet_study_on_a_generated_tree_is_planned_before_anything_is_submitted(tmp_path):
    project = fresh(tmp_path / "project")
    for split, count in (("train", 12), ("val", 3)):
        for name in ("n01440764", "n01443537"):
            folder = tmp_path / "data" / "imagenet" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (64, 48), (i, 0, 0)).save(folder / f"{name}_{i}.JPEG")
    arguments = ("config/studies/imagenet.yaml", "--data-root", str(tmp_path / "data"), "--profile", "profiles/slurm")
    words = project.invp("plan", *arguments)
    assert not (project.folder / "results" / "datasets").exists()
    lines = {line.split()[0]: line for line in words.splitlines() if line.strip()}
    assert "2 of 2" in lines["prepare"] and "32 of 32" in lines["pretrain"] and "7 of 7" in lines["explorer"]
    # Six stages of 800 epochs twice, four of 200 five times: 32 starts; 24 images; three passes of 8.2e9 operations.
    views = 24 * (2 * 800 + 5 * 200)
    seconds = 32 * _estimates.START + max(views * 3 * 8.2e9 / _estimates.OPERATIONS, views / _estimates.DECODED)
    assert float(lines["pretrain"].split()[4]) == pytest.approx(seconds / 3600, rel=0.05)
    assert re.split(r"\s{2,}", lines["pretrain"])[3] == plan.duration(float(lines["pretrain"].split()[4]))
    (project.folder / "config/studies/imagenet.yaml").unlink()
    assert "does not exist" in project.invp("plan", *arguments, expect=2)


# Images of each split of the sets of Tables 1 to 5, and bytes of one: what their authors say, and ImageNet's mean for all photographs.
SETS = {
    "imagenet": {"train": 1281167, "test": 50000}, "places205": {"train": 2448873, "test": 20500},
    "voc2007": {"train": 5011, "test": 4952, "val": 2510}, "voc0712": {"train": 16551, "test": 4952},
    "cifar10": {"train": 50000, "test": 10000}, "cifar100": {"train": 50000, "test": 10000},
    "caltech101": {"train": 3060, "test": 6084}, "stanford-cars": {"train": 8144, "test": 8041},
    "oxford-pets": {"train": 3680, "test": 3669}, "flowers102": {"train": 1020, "test": 6149, "val": 1020},
}  # fmt: skip


def as_prepared(project, sets) -> None:
    """Manifests of the true sizes, with shards that hold nothing: a plan reads no more of them."""
    for dataset, splits in sets.items():
        for split, number in splits.items():
            folder = project.folder / "results/datasets" / dataset / split
            folder.mkdir(parents=True)
            encoded = not dataset.startswith("cifar")
            with open(folder / "shard.arrow", "wb") as file:
                file.truncate(number * (108000 if encoded else 3092))
            manifest = {
                "num_samples": number, "format": "encoded" if encoded else "uint8", "shards": [{"file": "shard.arrow"}], "classes": ["a"],
            }  # fmt: skip
            (folder / "manifest.json").write_text(json.dumps(manifest))


def test_no_job_of_the_papers_tables_exceeds_its_rules_limit(tmp_path):
    """At the true sizes of all sets, with one GPU a pretraining; the total is said."""
    project = fresh(tmp_path / "project")
    as_prepared(project, SETS)
    with open(project.folder / "config/studies/tables.yaml", "a") as file:
        file.write("raw_data: trust\n")
    words = project.invp("plan", "config/studies/tables.yaml", "--profile", "profiles/slurm")
    assert "warning" not in words, words
    rows = {line.split()[0]: line.split() for line in words.splitlines() if "of" in line.split()[:3]}
    # Three networks: seven grids of 56 pairs, and five trials.
    assert (
        rows["evaluate_part"][1:4] == ["1191", "of", "1191"] and rows["evaluate"][3] == "40" and rows["evaluate_on_cpu"][3] == "16"
    )
    assert rows["evaluate_on_cpu"][4] == "-", "hours of a job without a GPU are no GPU-hours"
    total = sum(float(row[4]) for row in rows.values() if row[4] != "-")
    said = float(words.split(" GPU-hours, ")[0].split()[-1].replace(",", ""))
    assert said == pytest.approx(total, rel=1e-2) and said > 500


def test_evaluations_that_run_the_encoder_are_counted_by_their_passes(monkeypatch, tmp_path):
    estimator = _estimates.Estimator(tmp_path, tmp_path)
    monkeypatch.setattr(estimator, "_data_of", lambda job, by_output: [(1000, 1, "uint8"), (200, 1, "uint8")])
    monkeypatch.setattr(estimator, "_network", lambda section: (_estimates.OPERATIONS, 1, 1, 1))  # a second a pass

    def seconds(rule="evaluate", inputs=(), **options):
        job = _estimates.Job(rule, {"encoder": {}, "augmentation": {"size": 100}, "evaluation": options}, inputs=list(inputs))
        return estimator._evaluate(job, {})[0]

    assert seconds(name="linear_blocks", crops="cached", epochs=5) == 1200
    assert seconds(name="linear_blocks", crops="fresh", epochs=5) == 1200 + 5000
    assert seconds(name="semi_supervised", share=0.1, epochs=5, steps=0) == 1200 + 3 * 500
    assert seconds(name="transfer", steps=10, batch_size=4, learning_rates=[1, 2], weight_decays=[0]) == 1200 + 3 * 40 * 3
    assert seconds(name="detection", steps=10, batch_size=4, test_size=200, longest=300) == 6 * (1200 + 3 * 40)

    # In parts: one training each, and what gathers them trains once more or not at all.
    grid = {"name": "transfer", "steps": 10, "batch_size": 4, "learning_rates": [1], "weight_decays": [0]}
    assert (
        seconds("evaluate_part", **grid) == seconds(inputs=["x/parts/a.json"], **grid | {"learning_rates": [1, 2]}) == 1200 + 3 * 40
    )
    assert seconds(inputs=["x/parts/a.json"], name="layer_readout") == _estimates.REST
    assert seconds("evaluate_part", name="layer_readout") == 1200
