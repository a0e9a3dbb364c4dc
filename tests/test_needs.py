"""What a study needs is looked at when it is read: splits, labels, given weights."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from invp.plumbing import needs
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load_study
from invp.plumbing.files import sha256_of
from invp.plumbing.plugins import load_plugin, plugin_names


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INVP_DATA", str(tmp_path / "data"))
    (tmp_path / "data").mkdir()
    return tmp_path


def study(folder, text: str, parent: str = "smoke-invp") -> dict:
    (folder / "own.yaml").write_text(f"extends: {parent}\n{text}\n")
    return load_study({"study": "s", "experiments": ["own"]}, "s.yaml", folder)


def image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (9, 9)).save(path)


def test_evaluations_and_figures_that_need_labels_are_left_out_of_a_set_without(folder):
    image(folder / "data/photos/1.png")
    own = study(folder, "dataset: {name: image_folder, folder: photos, train: .}\nfigures: {class-maps: {}, graph-measures: {}}")
    words = "own: data set 'image-folder' has no labels: evaluations.knn, evaluations.linear, figures.class-maps left out"
    assert needs.leave_out_what_needs_labels(own) == [words]
    assert list(own["loaded"]["own"]["figures"]) == ["training-curves", "graph-measures"]
    needs.check(own)  # no test split is needed now


def test_an_evaluation_on_a_labelled_set_stays(folder):
    image(folder / "data/photos/1.png")
    text = "dataset: {name: image_folder, folder: photos, train: .}\nevaluations: {linear: {dataset: {name: digits}}}"
    own = study(folder, text)
    assert needs.leave_out_what_needs_labels(own) == ["own: data set 'image-folder' has no labels: evaluations.knn left out"]
    assert list(own["loaded"]["own"]["evaluations"]) == ["linear"]


def test_evaluations_that_take_one_label_are_left_out_of_a_set_of_boxes(folder):
    own = study(folder, "dataset: {name: scenes}\nevaluations: {svm: {}, detection: {}}")
    words = "own: data set 'scenes' has several labels an image: evaluations.knn, evaluations.linear left out"
    assert needs.leave_out_what_needs_labels(own) == [words]
    assert list(own["loaded"]["own"]["evaluations"]) == ["svm", "detection"]


@pytest.mark.parametrize("labelled", [True, False])
def test_parquet_without_a_column_of_labels(labelled, folder):
    columns = {"image": pa.array([b""])} | ({"label": pa.array([0])} if labelled else {})
    for split in ("train", "test"):
        pq.write_table(pa.table(columns), folder / f"data/{split}-0.parquet")
    assert len(needs.leave_out_what_needs_labels(study(folder, "dataset: {name: parquet}"))) == (not labelled)


def test_a_prepared_split_answers_without_the_raw_data(folder):
    own = study(folder, "dataset: {name: image_folder, folder: gone}")
    for split in ("train", "test"):
        path = folder / needs.manifest("image-folder", split)
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"classes": []}))
    assert len(needs.leave_out_what_needs_labels(own)) == 1
    needs.check(own)


def test_a_split_that_an_evaluation_needs_is_looked_for(folder):
    image(folder / "data/pets/train/cat/1.png")
    own = study(folder, "dataset: {name: image_folder, folder: pets}")
    assert needs.leave_out_what_needs_labels(own) == []
    words = r"data set 'image-folder' \(image_folder\) has no split 'test' under .*data, and evaluations.knn of own needs it.*, or set test_share"
    with pytest.raises(UserError, match=words):
        needs.check(own)
    image(folder / "data/pets/test/cat/1.png")
    needs.check(own)


@pytest.mark.parametrize("name", ["voc2007", "voc2012", "voc0712", "svhn", "cifar10", "imagenet"])
def test_the_test_split_of_a_known_layout_is_looked_for(name, folder):
    data = folder / "data"
    for year in ("2007", "2012"):
        for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
            (data / f"VOCdevkit/VOC{year}" / part).mkdir(parents=True)
        for split in ("train", "trainval"):
            (data / f"VOCdevkit/VOC{year}/ImageSets/Main/{split}.txt").touch()
    for path in ("train_32x32.mat", "cifar10/train-0.parquet", "imagenet/train/n01/1.png"):
        (data / path).parent.mkdir(parents=True, exist_ok=True)
        (data / path).touch()
    own = study(folder, f"evaluations: {{knn: null, linear: null, svm: {{dataset: {{name: {name}}}}}}}")
    with pytest.raises(UserError, match="has no split 'test' under .*, and evaluations.svm of own needs it"):
        needs.check(own)


@pytest.mark.parametrize(("content", "words"), [(None, "does not exist"), (b"", "is empty"), (b"weights", "")])
def test_given_weights_are_looked_for(content, words, folder):
    path = folder / "data/w.pth"
    if content is not None:
        path.write_bytes(content)
    own = study(folder, f"weights: {{file: w.pth, sha256: {sha256_of(path) if content else 'a' * 64}}}")
    if not words:
        return needs.check(own)
    with pytest.raises(UserError, match=f"own, section 'weights': file is 'w.pth', and .*data/w.pth {words}; put the file there"):
        needs.check(own)
    for stage in own["loaded"]["own"]["stages"]:  # what was trained from them is there
        made = folder / f"results/own/seed-0/pretrain/stage-{stage}/checkpoint.pt"
        made.parent.mkdir(parents=True)
        made.touch()
    needs.check(own)


@pytest.mark.parametrize("name", plugin_names("datasets"))
def test_sets_of_boxes_say_so(name):
    plugin = load_plugin("datasets", name)
    boxes = "voc" in name or name in ("scenes", "coco", "sbd", "image_masks")
    assert getattr(plugin, "MULTI_LABEL", False) == boxes


def test_sets_with_masks_say_so_and_others_are_refused_when_the_study_is_read(folder):
    """Before any training; a set that is made of another has the masks of that."""
    with_masks = [name for name in plugin_names("datasets") if needs.has_masks({"name": name})]
    assert with_masks == ["image_masks", "sbd", "scenes", "voc2012_segmentation"]
    words = f"own.yaml: evaluations.pixels: segmentation needs the class of each pixel, and data set 'digits' has no masks; valid: {', '.join(with_masks)}"
    with pytest.raises(UserError, match=words):
        study(folder, "evaluations: {pixels: {name: segmentation}}")
    corrupted = "{name: corrupted, of: {name: SET}, corruption: contrast, severity: 1}"
    with pytest.raises(UserError, match="data set 'corrupted' has no masks"):
        study(folder, f"evaluations: {{segmentation: {{dataset: {corrupted.replace('SET', 'coil20')}}}}}")
    study(folder, f"evaluations: {{segmentation: {{dataset: {corrupted.replace('SET', 'scenes')}}}}}")


def test_a_figure_of_an_evaluation_that_is_not_there_is_refused_when_the_study_is_read(folder):
    text = "evaluations: {pixels: {name: segmentation, dataset: {name: scenes}, pictures: NUMBER}}\nfigures: {segmentation: {}}"
    study(folder, text.replace("NUMBER", "1"))
    for wrong in (text.replace("NUMBER", "0"), "figures: {segmentation: {}}"):
        with pytest.raises(
            UserError, match="figures.segmentation shows pictures that the evaluation segmentation keeps, and there is none"
        ):
            study(folder, wrong)
