"""Every field of every section and of every plug-in is found here by itself, and refuses what it does not allow, when a study is read."""

import math
from dataclasses import Field, fields

import pytest
from omegaconf import MISSING

from invp.plumbing.config import plugin_options, structured
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load, load_study
from invp.plumbing.options import valid_values
from invp.plumbing.plugins import KINDS, load_plugin, plugin_names
from invp.plumbing.sections import SECTIONS, Study, Weights
from invp.tools.options import page

NEEDED = {"name": "resnet18", "epochs": 2, "study": "s", "experiments": ["one"], "file": "w.pth",
          "of": {"name": "digits"}, "corruption": "contrast", "severity": 1, "classes": ["one"]}  # fields without a default  # fmt: skip
PLUGINS = [(kind, name) for kind in KINDS for name in plugin_names(kind)]
CLASSES = {**SECTIONS, "weights": Weights, "study": Study} | {f"{k}/{n}": load_plugin(k, n).Config for k, n in PLUGINS}
FIELDS = [(place, declared) for place, config_class in CLASSES.items() for declared in fields(config_class)]
ids = [f"{place}.{declared.name}" for place, declared in FIELDS]


def needed(config_class: type) -> dict:
    return {declared.name: NEEDED[declared.name] for declared in fields(config_class) if declared.default is MISSING}


def wrong_values(declared: Field) -> list:
    """Values of another type, misspelt, not finite, and beyond each limit."""
    given, kind = declared.metadata, declared.type
    if kind is bool:
        return [2, "perhaps", None, [True]]
    if kind is str:
        wrong = [None, ["a"], {"a": "b"}]
        wrong += [given["choices"][0] + "x", given["choices"][0][:-1], ""] if given["choices"] else []
        return wrong + ([""] if given["filled"] else [])
    single = kind in (int, float, float | None)
    wrong = ["many", math.nan, math.inf, -math.inf, *([True, [1]] if single else []), *([None] if kind in (int, float) else [])]
    wrong += [2.5] if kind in (int, list[int]) else []
    step = 1 if kind in (int, list[int]) else 1e-3
    limits = given["limits"]
    beyond = {"least": -step, "above": 0, "most": step, "below": 0}
    wrong += [limit + beyond[name] for name, limit in limits.items()]
    if kind == list[str]:
        wrong = []
    if single:
        return wrong
    lists = [3, None, {"a": 1}, *([value] for value in wrong)]
    if given["length"]:
        start = limits.get("least", limits.get("above", 0)) + 0.1
        lists += [[start] * (given["length"] - 1), [start] * (given["length"] + 1)]
    if given["filled"]:
        lists.append([])
    if given["rising"]:
        low, high = limits.get("least", limits.get("above", 0)), limits.get("most", 10)
        lists.append([high, int((low + high) / 2) if kind == list[int] else (low + high) / 2])
    return lists


@pytest.mark.parametrize(("place", "declared"), FIELDS, ids=ids)
def test_a_field_says_what_it_is_and_what_is_valid(place, declared):
    assert declared.metadata.get("help"), "give the field by `option`, with a help"
    assert valid_values(declared)
    if declared.type in (int, float, list[int], list[float]):
        assert declared.metadata["limits"], "a number has a limit"


@pytest.mark.parametrize(("place", "declared"), FIELDS, ids=ids)
def test_wrong_values_are_refused_in_one_line(place, declared):
    config_class = CLASSES[place]
    for value in wrong_values(declared):
        options = needed(config_class) | {declared.name: value}
        with pytest.raises(UserError) as caught:
            if "/" in place:
                kind, name = place.split("/")
                plugin_options(kind, {"name": name, **options}, "file.yaml, section")
            else:
                structured(config_class, options, "file.yaml, section")
        message = str(caught.value)
        assert "\n" not in message and message.startswith("file.yaml, section")
        assert declared.name in message and "valid" in message, message
        if value is not None and not isinstance(value, (list, dict)):
            assert repr(value) in message or str(value) in message, message


@pytest.mark.parametrize("place", CLASSES)
def test_the_defaults_are_valid(place):
    structured(CLASSES[place], needed(CLASSES[place]), place)


@pytest.mark.parametrize(
    ("section", "options", "expected"),
    [
        ("encoder", {"name": "resnet5O"}, "name is 'resnet5O'; valid: resnet_small, resnet18"),
        ("encoder", {"norm": "btach"}, "norm is 'btach'; valid: batch, group"),
        ("encoder", {"norm": "group", "width": 12}, "width is 12; valid with norm: group: a multiple of 8 channels, not 12"),
        ("head", {"kind": "mpl"}, "kind is 'mpl'; valid: linear, mlp, none"),
        ("training", {"schedule": "cosin"}, "schedule is 'cosin'; valid: multistep, cosine, constant"),
        ("training", {"precision": "fp16"}, "precision is 'fp16'; valid: fp32, bf16"),
        ("training", {"batch_size": -4}, "batch_size is -4; valid: a whole number, at least 1"),
        ("training", {"learning_rate": -1}, "learning_rate is -1.0; valid: a number, above 0"),
        ("graph", {"of": "banks"}, "of is 'banks'; valid: bank, features"),
        ("graph", {"index": "exat"}, "index is 'exat'; valid: exact, ivf"),
        ("graph", {"k": 0}, "k is 0; valid: a whole number, at least 1"),
        ("evaluations", {"linear": {"features": "embeding"}}, "features is 'embeding'; valid: feature, embedding"),
        ("weights", 3, "must hold keys and values, not 3"),
        ("weights", {"file": "none.pth"}, "sha256 is ''; valid: the file's SHA-256"),
    ],
)
def test_a_study_names_file_key_value_and_what_is_valid(section, options, expected, root, tmp_path):
    text = (root / "config/experiments/digits-invp.yaml").read_text()
    (tmp_path / "digits-invp.yaml").write_text(text)
    (tmp_path / "own.yaml").write_text(f"extends: digits-invp\n{section}: {options!r}\n".replace("'", '"'))
    with pytest.raises(UserError) as caught:
        load_study({"study": "s", "experiments": ["own"]}, "study.yaml", tmp_path)
    message = str(caught.value)
    assert "own.yaml" in message and section in message and expected in message and "\n" not in message


def test_the_digest_of_weights_is_named_where_the_file_is_there(root, tmp_path, monkeypatch):
    monkeypatch.setenv("INVP_DATA", str(tmp_path))
    (tmp_path / "w.pth").write_bytes(b"weights")
    (tmp_path / "digits-invp.yaml").write_text((root / "config/experiments/digits-invp.yaml").read_text())
    (tmp_path / "own.yaml").write_text("extends: digits-invp\nweights: {file: w.pth}\n")
    with pytest.raises(UserError, match="that of .*w.pth is 9a129038d9a00aed"):
        load(tmp_path / "own.yaml")


def test_the_reference_page_is_what_the_code_says(root):
    """After a change: python -m invp options --markdown docs/options.md"""
    assert (root / "docs/options.md").read_text() == page()


def test_one_section_or_plug_in_can_be_asked_for(run_invp):
    done = run_invp("options", "objective.invp")
    assert (
        done.returncode == 0
        and "num_positives: 50\n      P, the hard positives of an anchor, fewer than there are images; valid: a whole number"
        in done.stdout
    )
    wrong = run_invp("options", "objectiv.invp")
    assert wrong.returncode == 2 and "did you mean 'objective.invp'" in wrong.stderr
