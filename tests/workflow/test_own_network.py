"""A network of one's own: data set, encoder, weights and evaluations are all that an experiment need say."""

import json

import pytest

from invp.data.tables import matrix
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load
from invp.plumbing.files import read_table, sha256_of

EXPERIMENT = """\
dataset: {name: digits}
encoder: {name: resnet_small, width: 8}
augmentation: {size: 8, mean: [0.305, 0.305, 0.305], std: [0.376, 0.376, 0.376]}  # as the network was trained; default: ImageNet's
weights: {file: own.safetensors, sha256: SHA}
stages: [0]
evaluations: {knn: {}}
"""


def test_what_an_experiment_with_given_weights_need_not_say(tmp_path):
    (tmp_path / "own.yaml").write_text(EXPERIMENT.replace("SHA", "a" * 64))
    own = load(tmp_path / "own.yaml")
    assert own["training"]["epochs"] == 0 and own["head"]["kind"] == "none"
    (tmp_path / "own.yaml").write_text(EXPERIMENT.replace("SHA", "a" * 64).replace("[0]", "[0, 1]"))
    with pytest.raises(UserError, match="own.yaml, section 'objective' needs a 'name'"):
        load(tmp_path / "own.yaml")


def test_an_export_is_evaluated_as_a_network_of_ones_own(finished, tmp_path):
    """The features are those of the checkpoint that was exported."""
    project = finished.copy(tmp_path / "project")
    checkpoint = "results/smoke-invp/seed-0/pretrain/stage-2/checkpoint.pt"
    (tmp_path / "data").mkdir()
    weights = tmp_path / "data/own.safetensors"
    project.invp("export", checkpoint, "--to", "safetensors", "--out", str(weights))
    (project.folder / "config/experiments/own-network.yaml").write_text(EXPERIMENT.replace("SHA", sha256_of(weights)))
    study = "config/studies/own.yaml"
    (project.folder / study).write_text("study: own\nexperiments: [own-network]\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    printed = project.snakemake("all", "-n", "--config", f"data_root={empty}", study=study, expect=1)
    assert (
        "own-network, section 'weights': file is 'own.safetensors'" in printed and "does not exist; put the file there" in printed
    )
    project.snakemake("all", "--config", f"data_root={tmp_path / 'data'}", study=study)
    results = project.folder / "results"
    tables = [
        read_table(results / run / "digits-test.arrow")
        for run in ("own-network/seed-0/features/stage-0", "smoke-invp/seed-0/features/stage-2")
    ]
    assert (matrix(tables[0], "feature") == matrix(tables[1], "feature")).all()
    found = json.loads((results / "own-network/seed-0/evals/knn/stage-0/metrics.json").read_text())
    card = {"trained_on": "as in own.safetensors", "objective": "none", "network": "resnet_small, head none"}
    assert card.items() <= found["protocol"].items() and found["metrics"]["top1"] > 40
    assert "own-network" in (results / "studies/own/report.html").read_text()
