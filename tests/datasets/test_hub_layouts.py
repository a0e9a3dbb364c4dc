"""Parquet as the Hub has it: other names of columns, other folders, plain bytes."""

import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from invp.datasets import parquet
from invp.plumbing.errors import UserError


def write(path, plain=False, count=3):
    contents = []
    for i in range(count):
        out = io.BytesIO()
        Image.new("RGB", (8, 8), (40 * i, 0, 9)).save(out, "PNG")
        contents.append(out.getvalue())
    features = {"fine_label": {"names": ["ant", "bee", "cow"], "_type": "ClassLabel"}, "coarse_label": {"names": ["x"]}}
    images = contents if plain else [{"bytes": content, "path": ""} for content in contents]
    table = pa.table({"img": images, "fine_label": list(range(count)), "coarse_label": [0] * count})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})}), path)
    return contents


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("place", ["train-0.parquet", "data/train-0.parquet", "train/0.parquet", "plain_text/train/0.parquet"])
def test_folders_and_columns_of_the_hub(place, plain, tmp_path):
    contents = write(tmp_path / place, plain)
    config = parquet.Config(image="img", label="fine_label")
    assert parquet.has_split(config, tmp_path, "train") and not parquet.has_split(config, tmp_path, "test")
    source = parquet.load(config, tmp_path, "train")
    assert source.classes == ["ant", "bee", "cow"]
    assert [(source.read(i).image, source.read(i).label) for i in range(3)] == [(c, i) for i, c in enumerate(contents)]


def test_other_columns_are_named(tmp_path):
    write(tmp_path / "train-0.parquet")
    with pytest.raises(UserError, match="no column 'image' of images; its columns are img, fine_label, coarse_label"):
        parquet.load(parquet.Config(), tmp_path, "train")
    with pytest.raises(UserError, match="no column 'label' of labels; .*set label: to one of them"):
        parquet.load(parquet.Config(image="img"), tmp_path, "train")
    assert parquet.load(parquet.Config(image="img", label=""), tmp_path, "train").classes == []


def test_two_sets_in_one_folder_are_named(tmp_path):
    for name in ("a", "b"):
        write(tmp_path / name / "train/0.parquet")
    with pytest.raises(UserError, match="a/train and .*b/train both hold split train"):
        parquet.load(parquet.Config(image="img"), tmp_path, "train")


def png(shade):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 9)).save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("plain", [False, True])
def test_every_row_is_its_own_image_across_files_and_row_groups(plain, tmp_path):
    """Files of 5, 0, 1 and 4 rows in groups of 2: the first and the last row of each chunk too."""
    contents, labels = [png(7 * i) for i in range(10)], [i % 3 for i in range(10)]
    for number, (start, stop) in enumerate([(0, 5), (5, 5), (5, 6), (6, 10)]):
        images = contents[start:stop] if plain else [{"bytes": content, "path": None} for content in contents[start:stop]]
        kind = pa.binary() if plain else pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        table = pa.table({"image": pa.array(images, kind), "label": pa.array(labels[start:stop], pa.int64())})
        pq.write_table(table, tmp_path / f"train-{number}.parquet", row_group_size=2)
    source = parquet.load(parquet.Config(), tmp_path, "train")
    assert [source.read(i).image for i in range(10)] == contents and [source.read(i).label for i in range(10)] == labels
    assert source.classes == ["0", "1", "2"] and source.read(9).source == "train/9"


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([0, None, 1, None], "column 'label' has 2 empty values; labels must be whole numbers, or set label: ''"),
        ([0.0, 1.0, 1.5, 2.0], "column 'label' has type double; labels must be whole numbers"),
        (["a", "b", "a", "b"], "column 'label' has type string"),
        ([0, -1, 0, 1], "train/1 has label -1"),
    ],
)
def test_labels_that_are_no_whole_numbers_are_named(labels, words, tmp_path):
    pq.write_table(pa.table({"image": [png(i) for i in range(4)], "label": labels}), tmp_path / "train-0.parquet")
    with pytest.raises(UserError, match=words):
        parquet.load(parquet.Config(), tmp_path, "train")
    assert parquet.load(parquet.Config(label=""), tmp_path, "train").read(2).label is None


def test_an_empty_image_is_a_bad_image(tmp_path):
    pq.write_table(pa.table({"image": [png(0), None], "label": [0, 0]}), tmp_path / "train-0.parquet")
    source = parquet.load(parquet.Config(), tmp_path, "train")
    assert source.read(0).image == png(0)
    with pytest.raises(UserError, match="train/1 is no usable image"):
        source.read(1)
