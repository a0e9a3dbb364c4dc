"""What a study would cost: against numbers worked out by hand, and measured ones where there are any."""

import json

import pytest
from PIL import Image

from invp.tools import _estimates, plan
from tests.conftest import fresh

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
        resources: processes=4, nodes=2, gpu=4
    Shell command: python -m invp pretrain --section '{"seed":0}' --code 1 > log 2>&1
"""


def test_jobs_are_read_from_a_dry_run():
    features, pretrain = plan.parsed(DRY_RUN)
    assert (features.rule, features.section, features.gpus) == ("features", {"title": "it's", "seed": 0}, 1)
    assert features.inputs[1] == "results/datasets/d/train/manifest.json" and len(features.outputs) == 2
    assert (pretrain.rule, pretrain.gpus) == ("pretrain", 8)


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
    words = project.invp("plan", "config/studies/smoke.yaml")
    assert "0 jobs, 0 GPU-hours" in words and "assumed" not in words.split("jobs, ")[0]
    project.edit("config/studies/smoke.yaml", "seeds: [0]", "seeds: [0, 1]")
    words = project.invp("plan", "config/studies/smoke.yaml")
    row = next(line for line in words.splitlines() if line.startswith("pretrain"))
    assert "4 of 8" in row and "8 measured" in row
    records = [json.loads(p.read_text()) for p in (project.folder / "results").glob("*/seed-0/pretrain/*/record.json")]
    assert float(row.split()[4]) == pytest.approx(sum(r["seconds"] for r in records) / 3600, rel=1e-3)


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
    (project.folder / "config/studies/imagenet.yaml").unlink()
    assert "does not exist" in project.invp("plan", *arguments, expect=2)


def test_evaluations_that_run_the_encoder_are_counted_by_their_passes(monkeypatch, tmp_path):
    estimator = _estimates.Estimator(tmp_path, tmp_path)
    monkeypatch.setattr(estimator, "_data_of", lambda job, by_output: [(1000, 1, "uint8"), (200, 1, "uint8")])
    monkeypatch.setattr(estimator, "_network", lambda section: (_estimates.OPERATIONS, 1, 1, 1))  # a second a pass

    def seconds(**options):
        job = _estimates.Job("evaluate", {"encoder": {}, "augmentation": {"size": 100}, "evaluation": options})
        return estimator._evaluate(job, {})[0]

    assert seconds(name="linear_blocks", crops="cached", epochs=5) == 1200
    assert seconds(name="linear_blocks", crops="fresh", epochs=5) == 1200 + 5000
    assert seconds(name="semi_supervised", share=0.1, epochs=5, steps=0) == 1200 + 3 * 500
    assert seconds(name="transfer", steps=10, batch_size=4, learning_rates=[1, 2], weight_decays=[0]) == 1200 + 3 * 40 * 3
    assert seconds(name="detection", steps=10, batch_size=4, test_size=200, longest=300) == 6 * (1200 + 3 * 40)
