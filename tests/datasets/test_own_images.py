"""Folders of one's own: classes at any depth, lists of labels, a test share, and nothing dropped without a word."""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from invp.data.shards import Shards
from invp.plumbing.config import plugin_options
from invp.plumbing.errors import UserError
from invp.steps import prepare


def image(path: Path, shade: int = 0, size=(12, 12), kind: str | None = None) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (shade, 255 - shade, 7)).save(path, kind)
    return path.read_bytes()


def prepared(root: Path, split: str = "train", **options) -> Shards:
    out = root.parent / f"out-{split}"
    prepare.write_split(plugin_options("datasets", {"name": "image_folder", "folder": "mine", **options}, "t"), split, root, out)
    return Shards(out)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "data/mine").mkdir(parents=True)
    return tmp_path / "data"


def test_tiny_imagenets_own_layout(root):
    """Training images two levels down; the test's labels in a table with tabs."""
    for label, name in enumerate(("n01", "n02")):
        for i in range(2):
            image(root / f"mine/train/{name}/images/{name}_{i}.JPEG", 50 * label + i)
        (root / f"mine/train/{name}/{name}_boxes.txt").write_text("n01_0.JPEG\t0\t0\t9\t9\n")
    for i in range(3):
        image(root / f"mine/val/images/val_{i}.JPEG", 100 + i)
    lines = [f"val_{i}.JPEG\t{name}\t0\t32\t44\t62\n" for i, name in enumerate(("n02", "n01", "n02"))]
    (root / "mine/val/val_annotations.txt").write_text("".join(lines))
    options = {"test": "val/images", "test_labels": "val/val_annotations.txt"}
    train, test = prepared(root, **options), prepared(root, "test", **options)
    assert train.labels.tolist() == [0, 0, 1, 1] and train.sources()[0] == "n01/images/n01_0.JPEG"
    assert train.manifest["ignored"] == {".txt": 2}
    assert train.classes == test.classes == ["n01", "n02"] and test.labels.tolist() == [1, 0, 1]
    assert [test.encoded(i) for i in range(3)] == [(root / f"mine/val/images/val_{i}.JPEG").read_bytes() for i in range(3)]
    assert test.manifest["split_rule"] == "listed in val_annotations.txt"


LISTS = {
    "blanks.txt": "a/1.png 10\nb/2.png 9\n",
    "commas.csv": "label,path\n10,a/1.png\n9,b/2.png\n",
    "semicolons.csv": "a/1.png;10\nb/2.png;9\n",
    "objects.jsonl": '{"file_name": "a/1.png", "label": 10}\n\n{"file_name": "b/2.png", "label": "9"}\n',
}


@pytest.mark.parametrize("name", LISTS)
def test_lists_of_paths_and_labels(name, root):
    contents = [image(root / "mine/train/a/1.png", 1), image(root / "mine/train/b/2.png", 2)]
    (root / "mine" / name).write_text(LISTS[name])
    shards = prepared(root, train_labels=name)
    assert shards.classes == ["9", "10"] and shards.labels.tolist() == [1, 0]  # numbers in their own order
    assert [shards.encoded(i) for i in range(2)] == contents


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("l.csv", "a.png,cat\nb.png\n", "l.csv, line 2: expected a path and a label, not 'b.png'"),
        ("l.csv", "path,kind\na.png,cat\n", "has the columns path, kind; one must be called label or class"),
        ("l.csv", "a.png,cat\nx.png,cat\ny.png,cat\n", "lists 2 images that are not in .*x.png, y.png"),
        ("l.csv", "a.png,-1\n", "label -1 is below 0"),
        ("l.csv", "", "lists no image"),
        ("l.jsonl", "{'path'\n", "line 1 is no JSON"),
        ("none.csv", None, "none.csv does not exist: train_labels is expected as a CSV or .jsonl"),
    ],
)
def test_a_bad_list_says_what_is_wrong(name, text, words, root):
    image(root / "mine/train/a.png")
    if text is not None:
        (root / "mine" / name).write_text(text)
    with pytest.raises(UserError, match=words):
        prepared(root, train_labels=name)


def test_a_label_that_train_lacks_is_named(root):
    for split, label in (("train", "cat"), ("test", "cow")):
        image(root / f"mine/{split}/1.png")
        (root / f"mine/{split}.csv").write_text(f"1.png,{label}\n")
    with pytest.raises(UserError, match="test/cow is a class that .*train does not have"):
        prepared(root, "test", train_labels="train.csv", test_labels="test.csv")


def test_one_folder_with_a_test_share(root):
    for label, (name, count) in enumerate((("cat", 10), ("dog", 5), ("eel", 1))):
        for i in range(count):
            image(root / f"mine/{name}/{i}.png", 20 * label + i)
    options = {"train": ".", "test_share": 0.2}
    train, test = (prepared(root, split, **options) for split in ("train", "test"))
    assert list(train.manifest["counts"].values()) == [8, 4, 1] and list(test.manifest["counts"].values()) == [2, 1, 0]
    assert not set(train.sources()) & set(test.sources()) and train.classes == test.classes
    rule = "official folders; 0.2 of each class for test, the rest for train, seed 0"
    assert train.manifest["split_rule"] == rule and test.manifest["split_rule"] == f"{rule}; no image of eel"
    first = test.sources()
    assert prepared(root, "test", **options).sources() == first != prepared(root, "test", split_seed=1, **options).sources()
    image(root / "mine/test/cat/1.png")
    with pytest.raises(UserError, match="test_share is 0.2, but there is a test split, .*mine/test; set test_share: 0"):
        prepared(root, **options)


def test_photographs_without_classes_may_lie_in_one_flat_folder(root):
    for i in range(10):
        image(root / f"mine/{i}.jpg", i)
    shards = prepared(root, train=".")
    assert shards.num_samples == 10 and shards.labels.tolist() == [-1] * 10 and shards.classes == []
    assert prepared(root, "test", train=".", test_share=0.3).num_samples == 3


@pytest.mark.parametrize("ending", ["gif", "bmp", "tif", "tiff", "webp"])
def test_images_of_every_usual_ending_are_read(ending, root):
    content = image(root / f"mine/train/a/1.{ending}", 9)
    shards = prepared(root)
    assert shards.encoded(0) == content and shards.decoded(0).size == (12, 12) and not shards.manifest["ignored"]


def test_what_is_not_read_is_counted_and_said_once(root, capsys):
    image(root / "mine/train/a/1.png")
    image(root / "mine/train/stray.png")
    for name in ("a/Thumbs.db", "a/2.heic", "a/3.heic", "a/README", "a/.DS_Store"):
        (root / "mine/train" / name).write_bytes(b"x")
    shards = prepared(root)
    assert shards.num_samples == 1
    assert shards.manifest["ignored"] == {
        ".db": 1, ".heic": 2, "hidden": 1, "images beside the folders of classes": 1, "no ending": 1
    }  # fmt: skip
    assert capsys.readouterr().err.count("not used: 1 .db, 2 .heic") == 1


def test_small_images_are_kept_as_pixels(root, capsys):
    for i in range(3):
        image(root / f"mine/train/a/{i}.png", 40 * i, (10, 8))
    advice = "the images have 10x8 pixels; decode: true in the section `dataset` keeps pixels"
    prepared(root)
    assert advice in capsys.readouterr().err
    shards = prepared(root, decode=True)
    assert "decode" not in capsys.readouterr().err
    assert shards.format == "uint8" and shards.shape == [3, 8, 10]
    assert shards.images(torch.tensor([2]))[0, :, 0, 0].tolist() == [80, 175, 7]


def test_pixels_of_unequal_or_large_images_are_an_error(root, capsys):
    for i in range(25):
        image(root / f"mine/train/a/{i:02d}.png", size=(20, 20))
    image(root / "mine/train/a/99.png", size=(20, 21))
    with pytest.raises(UserError, match="(?s)a/99.png.*it has 20x21 pixels, a/00.png has 20x20.*set decode: false"):
        prepared(root, decode=True)
    image(root / "mine/train/a/01.png", size=(9, 9))
    prepared(root)
    assert "decode" not in capsys.readouterr().err
    with pytest.raises(UserError, match="a/00.png has 20x20 pixels, a/01.png has 9x9 pixels; .*set decode: false"):
        prepared(root, decode=True)
    image(root / "mine/val/a/0.png", size=(65, 65))
    with pytest.raises(UserError, match="a/0.png has 65x65 pixels; decode: true is for equal-sized images up to 64 px"):
        prepared(root, "train", train="val", decode=True)


def test_all_bad_images_are_listed_at_once(root):
    image(root / "mine/train/a/good.png")
    for i in range(23):
        (root / f"mine/train/a/{i:02d}.jpg").write_bytes(b"nothing")
    with pytest.raises(UserError) as caught:
        prepared(root, rows_per_shard=10)
    message = str(caught.value)
    assert message.startswith("23 images cannot be used; on_bad_image: skip") and message.endswith("and 3 more")
    assert all(f"a/{i:02d}.jpg: it cannot be read" in message for i in range(20)) and "a/20.jpg" not in message
    for i in range(23):  # mended, of equal size in bytes: nothing of the failed run is kept
        (root / f"mine/train/a/{i:02d}.jpg").unlink()
    assert prepared(root, rows_per_shard=10).num_samples == 1


def test_an_image_mended_without_a_change_of_size_is_read_again(root):
    content = image(root / "mine/train/a/0.png")
    (root / "mine/train/a/0.png").write_bytes(bytes(len(content)))
    with pytest.raises(UserError, match="a/0.png"):
        prepared(root)
    (root / "mine/train/a/0.png").write_bytes(content)
    assert prepared(root).encoded(0) == content


def test_reasons_hold_no_address_and_manifests_are_equal(root):
    image(root / "mine/train/a/1.png")
    (root / "mine/train/a/2.png").write_bytes(b"nothing")
    (entry,) = prepared(root, on_bad_image="skip").manifest["skipped"]
    assert entry["reason"] == "it cannot be read (cannot identify image file)"


def test_names_in_any_bytes(root):
    name, folder = b"caf\xe9.png", os.fsencode(root) + b"/mine/train/\xe9t\xe9"
    os.makedirs(folder)
    content = image(root / "mine/x.png", 3)
    Path(os.fsdecode(folder + b"/" + name)).write_bytes(content)
    shards = prepared(root)
    assert shards.encoded(0) == content
    assert shards.sources() == ["\\xe9t\\xe9/caf\\xe9.png"] and shards.classes == ["\\xe9t\\xe9"]
    Path(os.fsdecode(folder + b"/" + name)).write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"caf\\xe9.png is no usable image"):
        prepared(root)


def test_a_link_that_leads_nowhere_or_above_itself_is_named(root):
    image(root / "mine/train/a/1.png")
    (root / "mine/train/a/up").symlink_to(root / "mine/train/a")
    with pytest.raises(UserError, match="a/up is a link to a folder above itself"):
        prepared(root)
    (root / "mine/train/a/up").unlink()
    (root / "mine/train/a/2.png").symlink_to(root / "gone.png")
    with pytest.raises(UserError, match="a/2.png is a link to a file that does not exist"):
        prepared(root)


def test_a_list_of_labels_for_validation(root):
    for i in range(3):
        image(root / f"mine/train/{'ab'[i % 2]}/{i}.png", i)
        image(root / f"mine/val/{i}.png", 100 + i)
    (root / "mine/val.csv").write_text("file,label\n2.png,a\n0.png,b\n")
    shards = prepared(root, "val", val_labels="val.csv")
    assert shards.sources() == ["2.png", "0.png"] and shards.labels.tolist() == [0, 1] and shards.classes == ["a", "b"]
    (root / "mine/val.csv").write_text("2.png,a\n0.png,z\n")
    with pytest.raises(UserError, match="z is a class that .*mine/train does not have"):
        prepared(root, "val", val_labels="val.csv")
    with pytest.raises(UserError, match="none.csv does not exist: val_labels is expected as a CSV or .jsonl"):
        prepared(root, "val", val_labels="none.csv")
