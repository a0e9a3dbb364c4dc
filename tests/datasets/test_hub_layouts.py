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
