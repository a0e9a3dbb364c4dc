"""Evaluations that fall into parts: parts that were made apart, in any order, give what one job gives; and what a part depends on."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import SMALL, encoder_inputs, prepared

from invp.evals import detection, transfer
from invp.evals._inputs import EncoderInputs
from invp.models.encoders import build_encoder
from invp.plumbing.config import instance
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load_study
from invp.plumbing.files import canonical_json
from invp.plumbing.plugins import load_plugin, plugin_names
from invp.plumbing.provenance import code_digest, step_modules
from invp.steps import evaluate_part
from invp.steps._evaluation import parts_of
from invp.steps.evaluate import evaluated, uses_gpu

ROOT = Path(__file__).resolve().parents[2]
IN_PARTS = [name for name in plugin_names("evals") if hasattr(load_plugin("evals", name), "parts")]
# Of each, few and short parts, on a small set.
QUICK = {
    "transfer": {"learning_rates": [1e-3, 0.1], "weight_decays": [0.0, 1e-3], "steps": 6, "batch_size": 32},
    "layer_readout": {"splits": 3, "components": 5, "costs": [0.01, 0.1], "pool": "global"},
    "detection": {
        "trials": 2, "steps": 6, "batch_size": 4, "drops": [], "warmup": 2, "train_sizes": [64], "test_size": 64, "longest": 64,
        "anchors": [12, 18], "pooled": 4, "regions": 16, "curve": [0],
    },
}  # fmt: skip
SETS = {
    "layer_readout": {"name": "composites", "size": 16, "train_images": 60, "test_images": 20},
    "detection": {"name": "scenes", "size": 64, "train_images": 12, "test_images": 8, "num_classes": 2, "most": 2},
}


@pytest.fixture
def inputs(name, digits, tmp_path):
    """A small network as it is initialised, with a set that the evaluation takes."""
    if name not in SETS:
        return encoder_inputs(digits)
    folders = prepared(SETS[name], tmp_path)
    size = SETS[name]["size"]
    torch.manual_seed(0)
    encoder = build_encoder(SMALL, size)
    return EncoderInputs(encoder, None, folders["train"], folders["test"], [], size, [0.5] * 3, [0.25] * 3)


def made_apart(plugin, config, inputs) -> dict[str, dict]:
    """The parts, the last one first, as they come out of their files."""
    own = {name: instance(type(config), {**vars(config), **options}) for name, options in plugin.parts(config).items()}
    found = {
        name: plugin.evaluate_part(own[name], inputs, name, seed=0, device="cpu") for name in reversed(list(plugin.parts(config)))
    }
    return json.loads(json.dumps(found, allow_nan=False))


@pytest.mark.parametrize("name", IN_PARTS)
def test_parts_made_apart_in_any_order_give_what_one_job_gives_and_none_may_be_missing(name, inputs):
    plugin = load_plugin("evals", name)
    config = instance(plugin.Config, QUICK[name])
    assert len(plugin.parts(config)) > 1
    for options in plugin.parts(config).values():
        assert options.keys() <= {field.name for field in fields(plugin.Config)}
    whole = evaluated(plugin, config, inputs, {}, seed=0, device="cpu")
    made = made_apart(plugin, config, inputs)
    assert evaluated(plugin, config, inputs, made, seed=0, device="cpu") == whole
    made.popitem()
    with pytest.raises(UserError, match="is missing"):
        evaluated(plugin, config, inputs, made, seed=0, device="cpu")


@pytest.mark.parametrize("name", ["detection"])
def test_trials_differ_and_the_numbers_are_their_means(name, inputs):
    config = instance(detection.Config, QUICK[name])
    made = made_apart(detection, config, inputs)
    assert made["trial-1"]["loss"] != made["trial-2"]["loss"]
    made["trial-1"]["metrics"]["ap50"], made["trial-2"]["metrics"]["ap50"] = 10.0, 16.0
    for trial, ap in (("trial-1", 1.0), ("trial-2", 2.0)):
        made[trial]["by_class"] = [
            {"class": "a", "ap": ap, "ap50": ap, "ap75": ap},
            {"class": "b", "ap": None, "ap50": None, "ap75": None},
        ]
    found = evaluated(detection, config, inputs, made, seed=0, device="cpu")
    assert found["metrics"]["ap50"] == 13 and found["details"]["deviation"]["ap50"] == pytest.approx(18**0.5)
    assert [row["ap"] for row in found["details"]["average_precision"]] == [1.5, None]
    assert found["details"]["loss"] == pytest.approx(np.mean([made["trial-1"]["loss"], made["trial-2"]["loss"]], 0))
    assert found["protocol"]["trials"].startswith("mean of 2") and "one run a seed" not in found["protocol"]["differs"]
    # One trial is the first of several.
    one = instance(detection.Config, {**QUICK[name], "trials": 1})
    alone = evaluated(detection, one, inputs, {}, seed=0, device="cpu")
    again = made_apart(detection, config, inputs)["trial-1"]
    assert alone["metrics"] == again["metrics"] and alone["details"]["loss"] == again["loss"]
    assert "one run a seed" in alone["protocol"]["differs"] and "trials" not in alone["details"]


@pytest.mark.parametrize("name", ["transfer"])
def test_a_rate_that_explodes_is_marked_and_not_chosen(name, inputs):
    config = instance(transfer.Config, {**QUICK[name], "learning_rates": [1e9, 0.1], "weight_decays": [0.0]})
    found = evaluated(transfer, config, inputs, {}, seed=0, device="cpu")
    assert [row["score"] for row in found["details"]["validation"]][0] == -1.0
    assert found["protocol"]["chosen"]["learning_rate"] == 0.1
    with pytest.raises(UserError, match="lower learning_rates"):
        evaluated(transfer, config, inputs, dict.fromkeys(transfer.parts(config), {"score": -1.0}), seed=0, device="cpu")


def study_with(**evaluations):
    config = {"study": "s", "experiments": ["smoke-invp"], "evaluations": evaluations}
    return load_study(config, "test", ROOT / "config/experiments")


def sections(**options) -> dict[str, str]:
    """The sections of all parts of a transfer."""
    study = study_with(moved={"name": "transfer", **options})
    names = parts_of(study["loaded"]["smoke-invp"]["evaluations"]["moved"])
    where = {"experiment": "smoke-invp", "seed": 0, "stage": 2, "eval": "moved"}
    return {name: canonical_json(evaluate_part.section(study, **where, part=name)) for name in names}


def test_one_more_rate_changes_no_other_part_and_another_schedule_all():
    before, after = (sections(learning_rates=rates, weight_decays=[0.0, 0.1]) for rates in ([0.1, 0.2], [0.1, 0.2, 0.3]))
    assert len(after) == 6 and {name: after[name] for name in before} == before
    other = sections(learning_rates=[0.1, 0.2], weight_decays=[0.0, 0.1], steps=7)
    assert other.keys() == before.keys() and not set(other.values()) & set(before.values())


def test_one_part_or_none_is_one_job():
    options = study_with(
        one={"name": "transfer", "learning_rates": [0.1], "weight_decays": [0.0]}, trial={"name": "detection"}, near={"name": "knn"}
    )["loaded"]["smoke-invp"]["evaluations"]
    assert [parts_of(options[name]) for name in ("one", "trial", "near")] == [{}, {}, {}]


def test_who_uses_a_gpu():
    """Neither evaluations of features that need none, nor jobs that only take means over parts."""
    masks = {"segmentation": {"dataset": {"name": "scenes"}}}
    options = study_with(
        **{f"default-{name}": {"name": name, **masks.get(name, {})} for name in plugin_names("evals")},
        five={"name": "detection", "trials": 5},
    )["loaded"]["smoke-invp"]["evaluations"]
    without = {name for name, each in options.items() if not uses_gpu({"evaluation": each})}
    quick = {"knn", "clusters", "svm", "low_shot_svm", "embedding_statistics", "layer_readout"}
    assert without == {"knn", "five", *(f"default-{name}" for name in quick)}


def test_a_part_that_is_refused_is_reported_by_the_evaluation(digits, tmp_path, run_invp):
    """With `on_error: report`: the part's file says why, and the evaluation that gathers it is not made either."""
    from invp.training.checkpoint import save_checkpoint

    study = study_with(
        moved={"name": "transfer", "learning_rates": [0.1, 0.2], "weight_decays": [0.0], "steps": 2, "metric": "map11"}
    )
    where = {"experiment": "smoke-invp", "seed": 0, "stage": 2, "eval": "moved"}
    names = list(parts_of(study["loaded"]["smoke-invp"]["evaluations"]["moved"]))
    section = evaluate_part.section(study, **where, part=names[0])
    state = {f"encoder.{key}": value for key, value in build_encoder(section["encoder"], 8).state_dict().items()}
    from invp.models.heads import build_head

    head = build_head(section["head"], build_encoder(section["encoder"], 8).num_features).state_dict()
    save_checkpoint({"objective": state | {f"head.{key}": value for key, value in head.items()}}, tmp_path / "checkpoint.pt")
    data = [f"{split}_data={digits[split]}/manifest.json" for split in ("train", "test")]

    def run(step: str, section: dict, output: str, *inputs: str, **env: str):
        words = [
            "--input",
            f"checkpoint={tmp_path}/checkpoint.pt",
            *data,
            *inputs,
            "--output",
            f"{output}={tmp_path}/{output}.json",
        ]
        code = code_digest(step_modules(step, section))
        return run_invp(
            step, "--section", canonical_json(section), "--code", code, *words, f"record={tmp_path}/{output}.record.json", env=env
        )

    failed = run("evaluate_part", section, "part")
    assert failed.returncode == 2 and "map11 is for sets with several labels" in failed.stderr and "Traceback" not in failed.stderr
    assert run("evaluate_part", section, "part", INVP_ON_ERROR="report").returncode == 0
    whole = load_plugin("steps", "evaluate").section(study, **where)
    done = run("evaluate", whole, "metrics", f"part={tmp_path}/part.json", INVP_ON_ERROR="report")
    assert done.returncode == 0, done.stderr
    reasons = [json.loads((tmp_path / f"{output}.json").read_text())["not_made"] for output in ("part", "metrics")]
    assert reasons[0] == reasons[1] and "several labels" in reasons[0]
