"""COCO's annotations, held against pycocotools' own reading of the same files; bad files and boxes are named; a detector trains on them."""

import json
import shutil
from types import SimpleNamespace

import pytest
import torch
from pycocotools.coco import COCO
from test_layouts import coco_file, coco_tree

from invp.data.shards import Shards
from invp.datasets import coco
from invp.evals import detection
from invp.evals._inputs import Saves
from invp.models.encoders import build_encoder
from invp.plumbing.config import plugin_options, structured
from invp.plumbing.errors import UserError
from invp.plumbing.sections import Encoder
from invp.steps import prepare
from invp.steps.evaluate import evaluated


@pytest.fixture
def root(tmp_path):
    coco_tree(tmp_path / "data", train=("train2017", [2, 3, 1]), test=("val2017", [1, 2]))
    return tmp_path / "data"


def prepared(root, split="train", **options) -> Shards:
    out = root.parent / f"out-{split}"
    shutil.rmtree(out, ignore_errors=True)
    prepare.write_split(plugin_options("datasets", {"name": "coco", **options}, "t"), split, root, out)
    return Shards(out)


def test_it_reads_what_pycocotools_reads(root):
    theirs, shards = COCO(str(root / "coco/annotations/instances_train2017.json")), prepared(root)
    assert shards.classes == [each["name"] for each in theirs.loadCats(sorted(theirs.getCatIds()))] == ["person", "cup", "dog"]
    assert shards.sources() == [each["file_name"] for each in theirs.loadImgs(theirs.getImgIds())]
    for number, identifier in enumerate(theirs.getImgIds()):
        boxes, labels, crowds = shards.boxes(number)
        expected = theirs.loadAnns(theirs.getAnnIds(imgIds=[identifier]))
        corners = torch.cat([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
        assert corners.tolist() == [each["bbox"] for each in expected]
        assert [sorted(theirs.getCatIds())[label] for label in labels] == [each["category_id"] for each in expected]
        assert crowds.tolist() == [bool(each["iscrowd"]) for each in expected]
    assert shards.multi_labels.tolist() == [[-1, 0, 1], [0, 0, 0], [1, 1, 0]]  # a person of image 2 is a crowd alone
    assert shards.manifest["multi_label"] and list(shards.manifest["counts"].values()) == [1, 1, 1]


def test_classes_may_be_chosen_and_others_are_counted(root):
    shards = prepared(root, classes=["dog", "person"])
    assert shards.classes == ["dog", "person"] and shards.multi_labels.tolist() == [[1, -1], [0, 0], [0, 1]]
    assert shards.manifest["ignored"] == {"objects of other classes": 1}
    with pytest.raises(UserError, match="has no category 'cat'; it has cup, dog, person"):
        prepared(root, classes=["cat"])


def test_one_file_is_split_by_a_share(root):
    with pytest.raises(
        UserError, match="test_share is 0.34, but there is a test split, .*instances_val2017.json; set test_share: 0"
    ):
        prepared(root, test_share=0.34)
    (root / "coco/annotations/instances_val2017.json").unlink()
    assert coco.has_split(coco.Config(test_share=0.34), root, "test") and not coco.has_split(coco.Config(), root, "test")
    train, test = (prepared(root, split, test_share=0.34) for split in ("train", "test"))
    assert (train.num_samples, test.num_samples) == (2, 1) and train.classes == test.classes
    assert {*train.sources(), *test.sources()} == {f"00000{i}.jpg" for i in (1, 2, 3)}
    assert test.manifest["split_rule"] == "listed in instances_train2017.json; 0.34 for test, the rest for train, seed 0"


def test_labels_of_another_file_follow_trains_categories(root):
    """The same names under other ids."""
    path = root / "coco/annotations/instances_val2017.json"
    boxes = {1: [(5, [0, 0, 2, 2], 0)], 2: []}
    coco_file(path, [1, 2], boxes, ((5, "dog"), (9, "person")))
    assert prepared(root, "test").multi_labels.tolist() == [[0, 0, 1], [0, 0, 0]]
    coco_file(path, [1, 2], boxes, ((5, "cat"), (9, "person")))
    with pytest.raises(UserError, match="val2017.json has the category 'cat', which train's file does not have"):
        prepared(root, "test")


@pytest.mark.parametrize(("box", "words"), [
    ([1, 1, 0, 4], "has no area"),
    ([1, 1, 4, -1], "has no area"),
    ([12, 1, 4, 4], "lies outside its image of 12 x 10 pixels"),
    ([-4, 1, 4, 4], "lies outside"),
    ([1, 1, 4], "is not four numbers"),
    ([1, 1, 4, float("nan")], "is not four numbers"),
])  # fmt: skip
def test_a_bad_box_is_named_or_left_out(box, words, root):
    path = root / "coco/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["bbox"] = box
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"train2017.json has 1 bad boxes; on_bad_box: skip .*annotation 10 .000002.jpg. {words}"):
        prepared(root)
    shards = prepared(root, on_bad_box="skip")
    assert len(shards.boxes(0)[0]) == 1 and shards.manifest["ignored"] == {"bad boxes": 1}


@pytest.mark.parametrize(("change", "words"), [
    (lambda c: c.pop("images"), "has no list 'images'"),
    (lambda c: c["images"][0].pop("file_name"), "'file_name' of images.0. is missing or of the wrong kind"),
    (lambda c: c["images"].append(c["images"][0]), "two images have the id 2"),
    (lambda c: c["annotations"][0].update(image_id=99), "annotation 10 has image_id 99, which the file does not list"),
    (lambda c: c["annotations"][0].update(category_id=99), "annotation 10 has category_id 99"),
    (lambda c: c["categories"].append({"id": 50, "name": "dog"}), "two categories have one name: dog"),
])  # fmt: skip
def test_a_file_that_is_none_says_what_is_wrong(change, words, root):
    path = root / "coco/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"train2017.json.*{words}"):
        prepared(root)
    path.write_text("{")
    with pytest.raises(UserError, match="train2017.json is not valid JSON"):
        prepared(root)
    path.unlink()
    with pytest.raises(UserError, match="train2017.json does not exist: a set with COCO's annotations is expected as"):
        prepared(root)


def test_an_image_that_is_not_there_is_named(root):
    (root / "coco/train2017/000003.jpg").unlink()
    with pytest.raises(UserError, match="000003.jpg is listed in split train, but cannot be opened"):
        prepared(root)


@pytest.mark.parametrize("options", [{"per_class": 3}, {"short_side": 100}])
def test_options_that_do_not_fit_boxes_are_refused(options):
    with pytest.raises(UserError, match=f"{next(iter(options))} is "):
        plugin_options("datasets", {"name": "coco", **options}, "t")


def test_a_detector_is_trained_and_measured_on_it(root):
    for split in ("train", "test"):
        prepared(root, split)
    encoder = build_encoder(structured(Encoder, {"name": "resnet_small", "width": 8}, "t"), 64)
    folders = {split: root.parent / f"out-{split}" for split in ("train", "test")}
    inputs = SimpleNamespace(encoder=encoder, **folders, mean=[0.5] * 3, std=[0.25] * 3, workers=1, saves=Saves())
    config = detection.Config(
        steps=2,
        batch_size=3,
        drops=[],
        warmup=0,
        train_sizes=[64],
        test_size=64,
        longest=80,
        anchors=[16, 32],
        pooled=4,
        regions=16,
    )
    found = evaluated(detection, config, inputs, {}, seed=0, device="cpu")
    assert found["protocol"]["training_images"] == 3 and found["protocol"]["steps"].startswith("2 of 3 images")
    assert {row["class"] for row in found["details"]["average_precision"]} == {"person", "cup", "dog"}
