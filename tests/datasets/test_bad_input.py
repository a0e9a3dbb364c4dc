"""Bad images and bad lists: an error that names the file, or, for single images, left out or converted, and listed."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from invp.data.shards import Shards
from invp.plumbing.config import plugin_options
from invp.plumbing.errors import UserError
from invp.steps import prepare


def bad(kind: str) -> bytes:
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    out = io.BytesIO()
    if kind == "truncated":
        Image.fromarray(array).save(out, "JPEG")
        return out.getvalue()[:-300]
    if kind == "no image":
        return b"<html>404</html>"
    if kind == "cmyk":
        Image.fromarray(array).convert("CMYK").save(out, "JPEG")
    elif kind == "16 bits":
        Image.fromarray(array[..., 0].astype(np.uint16) * 257).save(out, "PNG")
    elif kind == "one pixel":
        Image.fromarray(array[:1, :1]).save(out, "PNG")
    elif kind == "animated":
        frames = [Image.fromarray(np.roll(array, i, 0)) for i in range(3)]
        frames[0].save(out, "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    elif kind == "ppm":
        Image.fromarray(array).save(out, "PPM")
    return out.getvalue()


BAD = {
    "truncated": "truncated", "no image": "cannot be read", "cmyk": "CMYK", "16 bits": "mode is I;16", "one pixel": "1x1 pixels",
    "animated": "3 frames", "ppm": "format is PPM",
}  # fmt: skip
CONVERTED = {"cmyk", "16 bits", "animated", "ppm"}


@pytest.fixture
def tree(tmp_path):
    for name in ("cat", "dog"):
        folder = tmp_path / "data/pets/train" / name
        folder.mkdir(parents=True)
        for i in range(3):
            Image.new("RGB", (20, 30), (40 * i, 0, 0)).save(folder / f"{i}.png")
    return tmp_path / "data"


def run(root, out, **options):
    prepare.write_split(plugin_options("datasets", {"name": "image_folder", "folder": "pets", **options}, "t"), "train", root, out)


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_an_error_that_names_it(kind, tree, tmp_path):
    (tree / "pets/train/cat/1.png").write_bytes(bad(kind))
    with pytest.raises(UserError, match=f"(?s)cat/1.png.*{BAD[kind]}.*on_bad_image: skip"):
        run(tree, tmp_path / "out")
    assert not (tmp_path / "out/manifest.json").exists()


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_left_out_counted_and_listed(kind, tree, tmp_path):
    (tree / "pets/train/cat/1.png").write_bytes(bad(kind))
    run(tree, tmp_path / "out", on_bad_image="skip", rows_per_shard=2)
    shards = Shards(tmp_path / "out")
    assert shards.num_samples == 5 and shards.labels.tolist() == [0, 0, 1, 1, 1]
    assert shards.manifest["counts"] == {"cat": 2, "dog": 3}
    (entry,) = shards.manifest["skipped"]
    assert entry["source"] == "cat/1.png" and entry["index"] == 1 and BAD[kind] in entry["reason"]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_image_is_converted_where_that_is_possible(kind, tree, tmp_path):
    (tree / "pets/train/cat/1.png").write_bytes(bad(kind))
    run(tree, tmp_path / "out", on_bad_image="convert")
    shards = Shards(tmp_path / "out")
    listed = shards.manifest["converted" if kind in CONVERTED else "skipped"]
    assert [entry["source"] for entry in listed] == ["cat/1.png"]
    assert shards.num_samples == (6 if kind in CONVERTED else 5)
    if kind in CONVERTED:
        image = Image.open(io.BytesIO(shards.encoded(1)))
        assert image.mode == "RGB" and image.size == (50, 40) and np.asarray(image).std() > 20


def test_every_image_left_out_is_an_error(tree, tmp_path):
    for path in (tree / "pets/train").rglob("*.png"):
        path.write_bytes(b"nothing")
    with pytest.raises(UserError, match="every image was left out; the first, cat/0.png"):
        run(tree, tmp_path / "out", on_bad_image="skip")


def test_photographs_are_made_smaller_if_asked(tree, tmp_path):
    Image.new("RGB", (400, 100), (9, 9, 9)).save(tree / "pets/train/cat/1.png")
    run(tree, tmp_path / "out", short_side=50)
    shards = Shards(tmp_path / "out")
    assert shards.decoded(1).size == (200, 50) and shards.decoded(0).size == (20, 30)
    assert shards.encoded(0) == (tree / "pets/train/cat/0.png").read_bytes()


@pytest.mark.parametrize(
    "lines, words",
    [
        ("a/abbey/1.jpg 0\na/abbey/9.jpg 0\n", "a/abbey/9.jpg is listed in split train, but cannot be opened"),
        ("a/abbey/1.jpg 0\na/abbey/1.jpg 0\n", "a/abbey/1.jpg is listed twice"),
        ("a/abbey/1.jpg -1\n", "a/abbey/1.jpg has label -1"),
        ("a/abbey/1.jpg\n", "line 1: expected a path and a class number"),
        ("", "lists no image"),
    ],
)
def test_a_bad_list_names_the_file_and_the_line(lines, words, tmp_path):
    folder = tmp_path / "places205"
    (folder / "images/a/abbey").mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "images/a/abbey/1.jpg")
    (folder / "train_places205.csv").write_text(lines)
    (folder / "val_places205.csv").write_text("a/abbey/1.jpg 0\n")
    with pytest.raises(UserError, match=words):
        prepare.write_split(plugin_options("datasets", {"name": "places205"}, "t"), "train", tmp_path, tmp_path / "out", 1)


def test_a_label_out_of_range_names_the_image(tmp_path):
    folder = tmp_path / "oxford-iiit-pet"
    (folder / "annotations").mkdir(parents=True)
    (folder / "images").mkdir()
    Image.new("RGB", (9, 9)).save(folder / "images/a_1.jpg")
    (folder / "annotations/trainval.txt").write_text("a_1 0 1 1\n")
    (folder / "annotations/test.txt").write_text("a_1 1 1 1\n")
    with pytest.raises(UserError, match="a_1.jpg has label -1"):
        prepare.write_split(plugin_options("datasets", {"name": "oxford_pets"}, "t"), "train", tmp_path, tmp_path / "out", 1)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"<annotation><object>", "no readable annotation"),
        (b"<annotation><object><name>unicorn</name></object></annotation>", "unicorn"),
        (None, "does not exist, but its image is listed"),
    ],
)
def test_a_bad_annotation_names_the_file(content, words, tmp_path):
    folder = tmp_path / "VOCdevkit/VOC2007"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(folder / "JPEGImages/1.jpg")
    (folder / "ImageSets/Main/trainval.txt").write_text("1\n")
    if content is not None:
        (folder / "Annotations/1.xml").write_bytes(content)
    with pytest.raises(UserError, match=f"(?s)1.xml.*{words}"):
        prepare.write_split(plugin_options("datasets", {"name": "voc2007"}, "t"), "train", tmp_path, tmp_path / "out", 1)


def test_an_empty_class_and_a_missing_split_are_clear_errors(tree, tmp_path):
    (tree / "pets/train/eel").mkdir()
    with pytest.raises(UserError, match="eel holds no image"):
        run(tree, tmp_path / "out")
    with pytest.raises(UserError, match="(?s)pets/val does not exist.*INVP_DATA"):
        options = plugin_options("datasets", {"name": "image_folder", "folder": "pets"}, "t")
        prepare.write_split(options, "val", tree, tmp_path / "out", 1)


def test_the_manifest_says_what_was_left_out_after_a_restart_too(tree, tmp_path):
    (tree / "pets/train/cat/1.png").write_bytes(bad("truncated"))
    for _ in range(2):
        run(tree, tmp_path / "out", on_bad_image="skip", rows_per_shard=2)
        assert len(json.loads((tmp_path / "out/manifest.json").read_text())["skipped"]) == 1


@pytest.mark.parametrize(
    "name", ["voc", "voc2007", "voc2012", "voc0712", "voc2012_segmentation", "sbd", "scenes", "composites", "coil20"]
)
def test_a_balanced_part_of_a_set_without_one_label_an_image_is_refused(name):
    with pytest.raises(UserError, match="per_class is 3, which this set has no use for; valid: 0"):
        plugin_options("datasets", {"name": name, "per_class": 3}, "t")


def test_a_balanced_part_of_images_without_labels_is_refused(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (9, 9)).save(tmp_path / "photos/1.png")
    options = plugin_options("datasets", {"name": "image_folder", "folder": "photos", "train": ".", "per_class": 1}, "t")
    with pytest.raises(UserError, match="per_class is 1, but the images have no single label each; valid: 0"):
        prepare.write_split(options, "train", tmp_path, tmp_path / "out")
