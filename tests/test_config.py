from pathlib import Path

import pytest
import yaml

from invp.plumbing.errors import UserError
from invp.plumbing.experiments import experiment_names, load, load_study

EXPERIMENTS = Path(__file__).resolve().parent.parent / "config" / "experiments"
STUDIES = sorted((EXPERIMENTS.parent / "studies").glob("*.yaml")) + [EXPERIMENTS.parent / "config.yaml"]


@pytest.fixture
def folder(tmp_path):
    for path in EXPERIMENTS.glob("digits-*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    return tmp_path


def write(folder, name, **content):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.mark.parametrize("name", experiment_names(EXPERIMENTS))
def test_every_experiment_loads(name):
    assert load(EXPERIMENTS / f"{name}.yaml")["name"] == name


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: p.stem)
def test_every_study_loads(path):
    study = load_study(yaml.safe_load(path.read_text()), str(path), EXPERIMENTS)
    assert list(study["loaded"]) == study["experiments"]


def test_a_child_changes_only_what_it_says(folder):
    child = load(write(folder, "digits-hot", extends="digits-invp", objective={"temperature": 0.5}))
    parent = load(folder / "digits-invp.yaml")
    assert child["objective"] == {**parent["objective"], "temperature": 0.5}
    assert {k: v for k, v in child.items() if k not in ("objective", "name")} == {
        k: v for k, v in parent.items() if k not in ("objective", "name")
    }


def test_another_name_drops_the_parents_options(folder):
    child = load(write(folder, "digits-x", extends="digits-invp", objective={"name": "instance_discrimination"}))
    assert "k" not in child["objective"]


@pytest.mark.parametrize(
    "content, words",
    [
        ({"objektive": {"name": "invp"}}, ["objektive", "did you mean 'objective'"]),
        ({"objective": {"name": "invp", "temprature": 0.1}}, ["temprature", "did you mean 'temperature'"]),
        ({"objective": {"name": "invb"}}, ["invb", "did you mean 'invp'"]),
        ({"training": {"epochs": "many"}}, ["epochs", "many"]),
        ({"training": {"epochs": 20}}, ["stages end at epoch 90"]),
        ({"stages": [10, 5]}, ["stages must rise"]),
        ({"stages": "all"}, ["stages must be a list"]),
        ({"objective": {"k": 0}}, ["k is 0", "at least 1"]),
        ({"augmentation": {"grayscale": 2.0}}, ["section 'augmentation'", "grayscale is 2.0", "at most 1"]),
        ({"extends": "digits-inpv"}, ["digits-inpv", "did you mean 'digits-invp'"]),
        ({"evaluations": {"knnn": {}}}, ["knnn", "did you mean 'knn'"]),
        ({"evaluate_stages": "some"}, ["evaluate_stages"]),
        ({"dataset": {"name": "digits", "id": "../up"}}, ["id"]),
        ({"views": {}}, ["section 'views' must be a list"]),
        ({"views": [{"size": 4, "sise": 2}]}, ["section 'views', kind 1", "sise"]),
        ({"views": [{}, {"mean": [0, 0, 0]}]}, ["mean is that of all views"]),
        ({"extends": "digits-simclr", "views": [{}, {"size": 4}]}, ["of [4, 8] pixels a side", "simclr takes views of one size"]),
        (
            {"extends": "digits-simclr", "objective": {"name": "swav", "num_small": 1}, "views": [{}, {}]},
            ["views has 2", "swav takes 3"],
        ),
        ({"views": [{}, {"count": 2}]}, ["views has 3, and the objective invp takes 1"]),
        (
            {"training": {"optimizer": "adamw", "momentum": 0.5}},
            ["momentum is 0.5, which optimizer adamw has no use for", "sgd, lars"],
        ),
        ({"training": {"betas": [0.8, 0.9]}}, ["betas is [0.8, 0.9], which optimizer sgd has no use for", "adamw"]),
        ({"training": {"drops": [3]}}, ["drops is [3], which schedule cosine has no use for", "multistep"]),
        ({"training": {"final_rate": 1.0}}, ["final_rate is 1.0", "at most the learning_rate"]),
        ({"training": {"weight_decay_end": "much"}}, ["weight_decay_end is 'much'", "a number or null"]),
        ({"training": {"weight_decay_end": -0.1}}, ["weight_decay_end is -0.1", "at least 0"]),
    ],
)
def test_a_mistake_names_the_file_the_key_and_the_nearest_valid_one(folder, content, words):
    path = write(folder, "digits-wrong", **{"extends": "digits-invp", **content})
    with pytest.raises(UserError) as caught:
        load(path)
    for word in ["digits-wrong.yaml", *words]:
        assert word in str(caught.value)


def test_kinds_of_view_take_what_they_do_not_give_from_the_augmentation(folder):
    two = {"extends": "digits-simclr", "views": [{}, {"blur_probability": 0.1, "solarize": 0.2}]}
    child, parent = load(write(folder, "digits-two", **two)), load(write(folder, "digits-one", extends="digits-simclr"))
    assert child["views"] == [
        {**parent["augmentation"], "count": 1}, {**parent["augmentation"], "blur_probability": 0.1, "solarize": 0.2, "count": 1},
    ]  # fmt: skip
    assert parent["views"] == []


def test_extending_in_a_circle_is_an_error(folder):
    write(folder, "a", extends="b")
    with pytest.raises(UserError, match="comes back to itself"):
        load(write(folder, "b", extends="a"))


def test_yaml_that_is_none(folder):
    (folder / "bad.yaml").write_text("a: [1, 2\nb: }")
    with pytest.raises(UserError, match="bad.yaml"):
        load(folder / "bad.yaml")


def test_a_study_names_the_nearest_experiment(folder):
    with pytest.raises(UserError, match="did you mean 'digits-invp'"):
        load_study({"study": "s", "experiments": ["digits-inpv"]}, "s.yaml", folder)
    with pytest.raises(UserError, match="unknown key 'seed'"):
        load_study({"study": "s", "experiments": ["digits-invp"], "seed": 1}, "s.yaml", folder)


@pytest.mark.parametrize("name", ["Two words", "a/b", "..", "-a", "_a", "é", "a\nb"])
def test_a_studys_name_is_one_of_a_folder(folder, name):
    with pytest.raises(UserError, match="s.yaml: study is .*; valid: a name, which is that of a folder") as caught:
        study(folder, study=name, experiments=["digits-invp"])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["datasets", "Studies", "logs", "benchmarks"])
def test_an_experiment_is_not_named_as_a_folder_of_the_workflows_own(folder, name):
    write(folder, name, extends="digits-invp")
    with pytest.raises(UserError, match=f"experiment '{name}' needs another name: results/{name.lower()} is a folder"):
        load_study({"study": "s", "experiments": [name]}, "s.yaml", folder)


def test_one_id_for_two_data_sets_is_an_error(folder):
    write(folder, "digits-other", extends="digits-invp", dataset={"name": "digits", "split_seed": 7})
    with pytest.raises(UserError, match="give one of them an 'id'"):
        load_study({"study": "s", "experiments": ["digits-invp", "digits-other"]}, "s.yaml", folder)


def study(folder, **content):
    return load_study({"study": "s"} | content, "s.yaml", folder)


def test_a_study_gives_evaluations_and_figures_to_all_or_some_of_its_experiments(folder):
    write(folder, "untrained", extends="digits-invp", stages=[0])
    loaded = study(
        folder,
        experiments=["digits-invp", "untrained"],
        evaluations={"svm": {"folds": 5}, "knn": None, "more": {"name": "knn", "experiments": ["untrained"]}},
        figures={"positives": {"experiments": ["digits-invp"]}},
    )["loaded"]
    assert set(loaded["digits-invp"]["evaluations"]) == {"linear", "svm"}
    assert set(loaded["untrained"]["evaluations"]) == {"linear", "svm", "more"}
    assert loaded["untrained"]["evaluations"]["svm"]["folds"] == 5
    assert "positives" in loaded["digits-invp"]["figures"] and "positives" not in loaded["untrained"]["figures"]
    with pytest.raises(UserError, match="s.yaml: evaluations.svm: experiments is 'digits'; valid: a list of digits-invp"):
        study(folder, experiments=["digits-invp"], evaluations={"svm": {"experiments": ["digits"]}})


def test_a_network_that_would_be_trained_twice_is_refused_with_both_names(folder):
    write(folder, "again", extends="digits-invp", evaluations={"svm": {}})
    with pytest.raises(UserError, match="s.yaml: 'digits-invp' and 'again' train the same network twice"):
        study(folder, experiments=["digits-invp", "again"])
    write(folder, "other", extends="digits-invp", objective={"k": 5})
    study(folder, experiments=["digits-invp", "other"])


def test_what_a_parent_has_can_be_taken_back(folder):
    write(folder, "parent", extends="digits-invp", evaluations={"svm": {"folds": 4}}, figures={"positives": {}})
    kept = load(write(folder, "kept", extends="parent", evaluations={"svm": {"name": "svm", "costs": [1.0]}}))
    assert kept["evaluations"]["svm"]["folds"] == 4 and kept["evaluations"]["svm"]["costs"] == [1.0]
    assert set(load(write(folder, "one", extends="parent", evaluations={"svm": None}))["evaluations"]) == {"knn", "linear"}
    for nothing in ({}, None):
        emptied = load(write(folder, "none", extends="parent", evaluations=nothing, figures=nothing))
        assert emptied["evaluations"] == emptied["figures"] == {}
    renamed = load(write(folder, "renamed", extends="parent", evaluations={"svm": {"name": "knn"}}))
    assert renamed["evaluations"]["svm"] == {"name": "knn", "k": [200, 10, 20, 100], "temperature": [0.07], "features": "embedding"}


def test_a_figure_of_pictures_is_refused_where_the_objective_makes_none(folder):
    own = {"shown": {"name": "reconstructions"}}
    words = (
        r"figures.shown shows pictures that an objective makes, and invp makes none; valid with: .*autoencoder, .*context_encoder"
    )
    with pytest.raises(UserError, match=f"x.yaml: {words}"):
        load(write(folder, "x", extends="digits-invp", figures=own))
    options = {"objective": {"name": "autoencoder"}, "graph": {"of": "features"}}
    assert load(write(folder, "y", extends="digits-invp", figures=own, **options))["figures"]["shown"]["images"] == 8


DIGITS = {"name": "digits"}


def test_names_may_have_capitals_and_underscores(folder):
    own = {"KNN_1": {"name": "knn"}, "linear_blocks": {}, "on_Set": {"name": "knn", "dataset": {**DIGITS, "id": "My_Digits-2"}}}
    write(folder, "My_Run-1", extends="digits-invp", evaluations=own, figures={"Training_Curves": {"name": "training_curves"}})
    study = load_study({"study": "s", "experiments": ["My_Run-1"]}, "s.yaml", folder)
    loaded = study["loaded"]["My_Run-1"]
    assert loaded["evaluations"]["KNN_1"]["name"] == "knn" and loaded["evaluations"]["linear_blocks"]["name"] == "linear_blocks"
    assert set(study["datasets"]) == {"digits", "My_Digits-2"} and "Training_Curves" in loaded["figures"]


def test_ids_that_differ_by_an_underscore_are_two_sets_and_a_plugins_name_keeps_its_folder(folder):
    sets = {"one": {**DIGITS, "id": "my_set"}, "two": {**DIGITS, "id": "my-set", "test_images": 300}}
    own = {name: {"name": "knn", "dataset": dataset} for name, dataset in sets.items()}
    experiment = load(write(folder, "x", extends="digits-invp", evaluations=own))
    assert experiment["datasets"]["my_set"]["test_images"] == 360 and experiment["datasets"]["my-set"]["test_images"] == 300
    assert (
        load(write(folder, "y", extends="digits-invp", dataset={"name": "image_folder", "folder": "a"}))["dataset_id"]
        == "image-folder"
    )


@pytest.mark.parametrize(
    "content",
    [
        {"evaluations": {"KNN": {"name": "knn"}}},
        {"figures": {"Training-Curves": {"name": "training_curves"}}},
        {"evaluations": {"other": {"name": "knn", "dataset": {**DIGITS, "id": "Digits"}}}},
    ],
)
def test_names_that_differ_by_case_alone_are_refused(content, folder):
    write(folder, "one", extends="digits-invp", **content)
    with pytest.raises(UserError, match="differ by capital letters alone"):
        load_study({"study": "s", "experiments": ["one"]}, "s.yaml", folder)


def test_experiments_that_differ_by_case_alone_are_refused(folder):
    write(folder, "Digits-Invp", extends="digits-invp", title="Other")
    with pytest.raises(UserError, match="'digits-invp' and 'Digits-Invp' differ by capital letters alone"):
        load_study({"study": "s", "experiments": ["digits-invp", "Digits-Invp"]}, "s.yaml", folder)


@pytest.mark.parametrize("name", ["_x", "-x", "a b", "a/b", "a.b", "ä", "", "a\n"])
def test_other_names_are_refused(name, folder):
    with pytest.raises(UserError, match="holds letters"):
        load(write(folder, "x", extends="digits-invp", evaluations={name: {"name": "knn"}}))
    with pytest.raises(UserError, match="holds letters"):
        load(write(folder, "x", extends="digits-invp", dataset={**DIGITS, "id": name}))
