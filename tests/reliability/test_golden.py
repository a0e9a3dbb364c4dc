"""The golden numbers: what small experiments give is what golden.json holds, to notice a change of a number that nobody meant.

After a change that was meant: `python -m invp golden --write`; say why in the commit.
"""

import json
from pathlib import Path

import pytest
import torch

from invp.plumbing.experiments import experiment_names, load_study
from invp.plumbing.golden import differences, digests_for, golden_numbers
from invp.plumbing.plugins import load_plugin, plugin_names
from invp.tools._coverage import choices, standing_for
from invp.tools._golden import Golden, condensed

ROOT = Path(__file__).resolve().parents[2]
CASES = golden_numbers()


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    return Golden(tmp_path_factory.mktemp("golden") / "study")


@pytest.mark.parametrize("case", CASES)
def test_numbers_are_those_of_golden_json(case, golden):
    if torch.cuda.is_available():  # whose sums are rounded otherwise, by more than the tolerance in 16 bits
        pytest.skip("golden numbers are of the CPU: CUDA_VISIBLE_DEVICES= python -m pytest tests/reliability/test_golden.py")
    assert differences(case, golden.numbers(case)) == []


def test_every_case_has_numbers_and_no_other_has(golden):
    assert list(golden.cases) == list(CASES)


@pytest.mark.parametrize(
    "kind, step", [("objectives", "pretrain"), ("objectives", "graph"), ("evals", "evaluate"), ("figures", "figure")]
)
def test_every_plug_in_has_a_case(kind, step):
    assert {case.split("/")[1] for case in CASES if case.startswith(f"{step}/")} - {"any"} == set(plugin_names(kind))


def jobs_of(name: str):
    """(step, section) of the jobs of one of our experiments whose results have golden numbers."""
    study = load_study({"study": "s", "experiments": [name]}, "test", ROOT / "config/experiments")
    options, run = study["loaded"][name], {"experiment": name, "seed": 0}
    stages = [run | {"stage": stage} for stage in options["stages"]]
    jobs = [(step, stage) for step in ("pretrain", "graph") for stage in stages]
    jobs.append(("features", stages[-1] | {"dataset": options["dataset_id"], "split": "test"}))
    jobs += [("evaluate", stages[-1] | {"eval": key}) for key in options["evaluations"]]
    jobs += [("figure", run | {"figure": key}) for key in options["figures"]]
    return [(step, load_plugin("steps", step).section(study, **wildcards)) for step, wildcards in jobs]


def test_every_option_that_our_experiments_choose_is_run_by_a_case(golden):
    """Else `adopt` could accept none of their results. What follows is known: no case has a file of weights."""
    refused = set()
    for name in experiment_names(ROOT / "config/experiments"):
        for step, section in jobs_of(name):
            cases, reason = standing_for(golden, {"step": step, "section": section, "golden": digests_for(step, section)})
            assert cases or reason
            if reason:
                refused.add((name, step, reason.rpartition(" runs ")[2]))
    assert refused == {("imagenet-supervised", "pretrain", "weights is given")}


def test_an_option_counts_with_its_own_plug_in_alone():
    section = {"objective": {"name": "moco", "momentum": 0.9}, "training": {"drops": []}, "weights": {"file": "x"}, "seed": 3}
    assert choices("pretrain", section) == {
        "objective moco.name is moco", "objective moco.momentum is not zero", "training.drops is empty", "weights is given",
    }  # fmt: skip


@pytest.mark.parametrize("record, words", [
    ({}, "older than golden numbers"),
    ({"golden": {}}, "written anew|as it was when it was made"),
    ({"golden": "now", "committed": False}, "of no commit"),
    ({"golden": {"pretrain/invp/invp": "00000000"}}, "as it was when it was made"),
])  # fmt: skip
def test_a_record_must_know_golden_numbers_that_still_hold(record, words, golden):
    section = golden.section(*golden.cases["pretrain/invp/invp"])
    record = {"step": "pretrain", "section": section, **record}
    if record.get("golden") == "now":
        record["golden"] = digests_for("pretrain", section)
    cases, reason = standing_for(golden, record)
    import re

    assert cases == [] and re.search(words, reason), reason


def test_a_number_that_is_off_by_more_than_a_rounding_is_named():
    case = "pretrain/invp/invp"
    numbers = json.loads(json.dumps(CASES[case]))
    numbers["curves.loss"][1] *= 1 + 1e-5
    assert differences(case, numbers) == []
    numbers["curves.loss"][1] *= 1 + 1e-3
    numbers["new"] = 1
    lines = differences(case, numbers)
    assert len(lines) == 2 and lines[0].startswith("curves.loss is [") and lines[1] == "new is 1, and was missing"


def test_long_lists_are_kept_as_a_few_numbers_that_tell_an_order():
    values = [float(v) for v in range(-5, 6)]
    assert condensed({"a": {"b": values, "c": [{"d": 1, "e": "x"}, {"d": None, "e": "y"}]}}) == {
        "a.b": [11, 0.0, 2.727273, 2.0], "a.c.d": [1, None], "a.c.e": "x y",
    }  # fmt: skip
    assert condensed(values)[""] != condensed(values[::-1])[""]
