"""The table by corruption: means over severities and kinds by hand, the clean evaluation beside, and '-' where a number is missing."""

import json
import statistics

import pytest

from invp.pages import robustness
from invp.pages.numbers import Number, Numbers
from invp.plumbing.files import canonical_json
from invp.plumbing.metrics import PERCENT

OF = {"name": "digits", "test_images": 360}
LINEAR = {"name": "linear", "epochs": 5}


def corrupted(kind: str, severity: int, of: dict = OF) -> dict:
    return {"name": "corrupted", "of": of, "corruption": kind, "severity": severity}


def experiment(**evaluations: tuple[dict, dict]) -> dict:
    """What is loaded of an experiment whose evaluations have these options and sets."""
    return {
        "evaluations": {name: options for name, (options, _) in evaluations.items()},
        "evaluation_datasets": {name: name for name in evaluations},
        "datasets": {name: dataset for name, (_, dataset) in evaluations.items()},
        "stages": [2],
    }


NOISY = {
    "noise-1": (LINEAR, corrupted("noise", 1)),
    "noise-5": (LINEAR, corrupted("noise", 5)),
    "blurred": (LINEAR, corrupted("blur", 3)),
}
VALUES = {"linear": (98.0, 96.0), "noise-1": (90.0, 80.0), "noise-5": (50.0, 44.0), "blurred": (60.0, 62.0)}


def made(loaded: dict, values: dict[str, dict[str, tuple]]) -> list:
    study = {"loaded": loaded}
    section = {
        "seeds": [0, 1],
        "experiments": list(loaded),
        "loaded": loaded,
        "corrupted": robustness.evaluations_by_corruption(study),
    }
    section = json.loads(canonical_json(section))  # as the step gets it: keys are sorted
    rows = [
        Number(e, seed, 2, name, "top1", v) for e, own in values.items() for name, vs in own.items() for seed, v in enumerate(vs)
    ]
    units = {f"{name}.top1": PERCENT for own in values.values() for name in own}
    images = {(e, name): 360 for e, own in values.items() for name in own}
    metrics = [
        {"experiment": e, "eval": name, "metrics": {"loss": 1.0, "validation_top1": 1.0, "top1": 2.0},
         "units": {"loss": {"unit": ""}, "validation_top1": {"unit": "%"}, "top1": {"unit": "%"}}}
        for e, own in values.items() for name in own
    ]  # fmt: skip
    return robustness.tables(section, Numbers(rows, units, images=images), metrics)


def test_the_means_are_those_by_hand():
    loaded = {"a": experiment(linear=(LINEAR, OF), **NOISY)}
    ((title, table),) = made(loaded, {"a": VALUES})
    assert title == "linear on digits, top1 in % (n = 360)"
    assert table.header == ["experiment", "clean", "mean over kinds", "blur (3)", "noise (1, 5)"]

    def text(*values: float) -> str:
        return f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}"

    # Noise: (90 + 50) / 2 and (80 + 44) / 2; a kind counts once, however many severities it has.
    assert table.rows == [["a", text(98, 96), text(65, 62), text(60, 62), text(70, 62)]]


def test_of_one_seed_or_severity_too_few_there_is_no_mean():
    loaded = {name: experiment(linear=(LINEAR, OF), **NOISY) for name in ("d", "b")}
    loaded["c"] = experiment(**{"noise-1": NOISY["noise-1"]})
    values = {"d": VALUES, "b": {**VALUES, "noise-5": (50.0,)}, "c": {"noise-1": (70.0, 70.0)}}
    ((_, table),) = made(loaded, values)
    assert [row[0] for row in table.rows] == ["d", "b", "c"], "in the study's order"
    assert table.rows[1] == ["b", "97.0 ± 1.4", "-", "61.0 ± 1.4", "-"]
    assert table.rows[2] == ["c", "-", "-", "-", "-"], "one of two severities is no mean to be compared, and there is no clean one"


@pytest.mark.parametrize("other", [(dict(LINEAR, epochs=6), OF), (LINEAR, dict(OF, test_images=100)), ({"name": "knn"}, OF)])
def test_the_clean_evaluation_has_the_same_options_and_set(other):
    ((_, table),) = made({"a": experiment(linear=other, **NOISY)}, {"a": VALUES})
    assert table.rows[0][1] == "-" and table.rows[0][2] != "-"


def test_evaluations_and_sets_have_a_table_each_and_a_study_without_corruption_none():
    knn = {"name": "knn"}
    evaluations = {**NOISY, "near": (knn, corrupted("noise", 2)), "other": (LINEAR, corrupted("noise", 2, {"name": "svhn"}))}
    found = made({"a": experiment(**evaluations)}, {"a": {**VALUES, "near": (10.0, 20.0), "other": (1.0, 1.0)}})
    assert [title.split(",")[0] for title, _ in found] == ["linear on digits", "knn on digits", "linear on svhn"]
    assert found[1][1].rows == [["a", "-", "15.0 ± 7.1", "15.0 ± 7.1"]]
    assert made({"a": experiment(linear=(LINEAR, OF))}, {"a": VALUES}) == []
    assert made({"a": experiment(**NOISY)}, {"a": {}}) == [], "nothing was made"
