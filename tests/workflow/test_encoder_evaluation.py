"""An evaluation that looks at the encoder itself runs in the workflow, and reruns when the network's options change."""

import json

EXPERIMENT = """\
extends: smoke-invp
title: Blocks
evaluations: {knn: false, linear: false, linear-blocks: {epochs: 3, learning_rates: [0.1, 0.3], weight_decays: [0.0]}}
figures: {training-curves: false}
"""


def test_linear_probes_of_all_blocks_in_a_study(finished, tmp_path):
    project = finished.copy(tmp_path / "project")
    (project.folder / "config/experiments/smoke-blocks.yaml").write_text(EXPERIMENT)
    study = "config/studies/blocks.yaml"
    columns = "[linear-blocks.top1, linear-blocks.top1_stem]"
    (project.folder / study).write_text(f"study: blocks\nexperiments: [smoke-blocks]\ncolumns: {columns}\n")
    project.snakemake("all", study=study)
    path = project.folder / "results/smoke-blocks/seed-0/evals/linear-blocks/stage-2/metrics.json"
    metrics = json.loads(path.read_text())
    assert metrics["metrics"]["top1"] > 60 and len(metrics["details"]["blocks"]) == 4
    assert f"{metrics['metrics']['top1_stem']:.2f}" in (project.folder / "results/summary.txt").read_text()
    assert project.planned(study=study) == {}
    assert "0 faults" in project.invp("verify")
