"""Labels count in the order of the training split's classes, whatever another split lacks."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from invp.data.tables import equal_classes
from invp.datasets import image_folder, parquet
from invp.plumbing.errors import UserError


def folders(root, **splits):
    for split, classes in splits.items():
        for name in classes:
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(root / split / name / f"{i}.png")
    return root


def labels(source):
    return [source.read(i).label for i in range(source.num_samples)]


def test_a_class_that_the_test_lacks_shifts_no_label(tmp_path):
    """Train cat, cow, dog and test cat, dog: the test's dogs were cows."""
    root = folders(tmp_path, train=["cat", "cow", "dog"], test=["cat", "dog"])
    train, test = (image_folder.load(image_folder.Config(), root, split) for split in ("train", "test"))
    assert train.classes == test.classes == ["cat", "cow", "dog"]
    assert labels(test) == [0, 0, 2, 2]
    assert test.split_rule == "official folders; no image of cow"


def test_a_class_that_train_lacks_is_named(tmp_path):
    root = folders(tmp_path, train=["cat", "dog"], test=["cat", "cow"])
    with pytest.raises(UserError, match=r"test/cow is a class that .*train does not have \(1 of 2 classes\)"):
        image_folder.load(image_folder.Config(), root, "test")


def table(path, numbers, metadata=None):
    image = pa.array([{"bytes": b"", "path": ""}] * len(numbers), pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    content = pa.table({"image": image, "label": pa.array(numbers, pa.int64())})
    pq.write_table(content.replace_schema_metadata(metadata), path)


def test_numbers_without_names_are_those_of_train(tmp_path):
    table(tmp_path / "train-0.parquet", [0, 1, 2])
    table(tmp_path / "test-0.parquet", [0, 1, 1])
    assert parquet.load(parquet.Config(), tmp_path, "test").classes == ["0", "1", "2"]


def test_names_are_those_of_trains_files(tmp_path):
    table(tmp_path / "train-0.parquet", [0, 1], {"classes": json.dumps(["cat", "cow"])})
    table(tmp_path / "test-0.parquet", [1, 1])
    test = parquet.load(parquet.Config(), tmp_path, "test")
    assert test.classes == ["cat", "cow"]


def test_splits_that_are_used_together_must_agree(tmp_path):
    for split, classes in (("train", ["cat", "dog"]), ("test", ["dog", "cat"]), ("val", ["cat", "owl"])):
        (tmp_path / f"{split}.json").write_text(json.dumps({"classes": classes}))
    with pytest.raises(UserError, match="train.json and .*test.json have other classes: their order; labels would not agree"):
        equal_classes([tmp_path / "train.json", tmp_path / "test.json"])
    with pytest.raises(UserError, match="other classes: dog, owl"):
        equal_classes([tmp_path / "train.json", tmp_path / "val.json"])
