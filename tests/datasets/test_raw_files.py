"""The raw files that a data set names are those that it reads, for every plug-in, and a change of them is noticed."""

import os
import shutil
import sys
from pathlib import Path

import pytest
from test_layouts import TREES, write

from invp.plumbing import raw_data
from invp.plumbing.config import instance, plugin_options
from invp.plumbing.plugins import load_plugin, plugin_names

OPENED: list[list[str]] = []  # of whoever listens; a hook of Python's audit can not be taken away again
sys.addaudithook(lambda event, found: [to.append(str(found[0])) for to in OPENED] if event == "open" else None)
SHIPPED = {"digits", "scenes", "composites"}  # with scikit-learn
# Sets of which each split has files of its own: another split does not list them.
APART = {
    "image_folder",
    "image_masks",
    "imagenet",
    "svhn",
    "places205",
    "flowers102",
    "oxford_pets",
    "stanford_cars",
    "voc2007",
    "voc",
    "corrupted",
    "voc2012_segmentation",
    "sbd",
}


@pytest.fixture
def unchecked(monkeypatch):
    """torchvision holds some files against the digests of the true ones."""
    for where in ("cifar", "svhn", "stl10"):
        monkeypatch.setattr(f"torchvision.datasets.{where}.check_integrity", lambda path, md5=None: Path(path).exists())


def opened_by(name: str, options: dict, root: Path, split: str) -> set[str]:
    """The files under `root` that Python opens to load a split and to read its images."""
    plugin = load_plugin("datasets", name)
    OPENED.append([])
    try:
        source = plugin.load(instance(plugin.Config, options), root, split)
        for number in range(source.num_samples):
            source.read(number)
    finally:
        found = OPENED.pop()
    return {path.removeprefix(f"{root}/") for path in found if path.startswith(f"{root}/") and not Path(path).is_dir()}


@pytest.mark.parametrize("name", plugin_names("datasets"))
def test_what_is_read_is_listed_and_a_change_is_noticed(name, tmp_path, unchecked):
    root = tmp_path / "data"
    root.mkdir()
    parts, options = TREES[name](root)
    options = plugin_options("datasets", {"name": name, **options}, "test")
    listings = {}
    for split in parts:
        listing = listings[split] = raw_data.listed(options, root, split)
        files = {os.fsdecode(path) for path in listing["name"].to_pylist()}
        read = opened_by(name, options, root, split)
        assert read <= files, "a file is read that is not listed"
        assert bool(files) == (name not in SHIPPED)
        assert raw_data.state_of(prepared(tmp_path, options, split, root), options, split, root).kind == "same"
    assert bool(read) == (name not in {*SHIPPED, "parquet"}), "Arrow opens its files without Python"
    for path in [path for path in sorted(files) if not path.endswith("/")][:1]:
        with open(root / path, "ab") as file:
            file.write(b" ")
        assert raw_data.state_of(tmp_path / split, options, split, root).text.endswith(f"prepared: 1 changed ({path})")
    if name in APART:
        train, test = ({n for n in listings[s]["name"].to_pylist() if n.endswith((b"g", b"G"))} for s in ("train", "test"))
        assert not train & test
    shutil.rmtree(root)
    assert raw_data.state_of(tmp_path / split, options, split, root).kind == ("same" if name in SHIPPED else "gone")


def prepared(folder: Path, options: dict, split: str, root: Path) -> Path:
    """A folder as prepare leaves it, as far as raw data goes."""
    (folder / split).mkdir(exist_ok=True)
    (folder / split / "manifest.json").write_text("{}")
    raw_data.keep(folder / split, options, split, raw_data.with_contents(raw_data.listed(options, root, split), root))
    return folder / split


def test_cut_outs_of_ones_own_are_listed(tmp_path):
    write(tmp_path / "cut/a/1.png", b"x")
    write(tmp_path / "behind/1.jpg", b"x")
    options = plugin_options("datasets", {"name": "composites", "cutouts": "cut", "backgrounds": "behind"}, "test")
    assert raw_data.listed(options, tmp_path, "train")["name"].to_pylist() == [b"behind/1.jpg", b"cut/a/", b"cut/a/1.png"]


def test_a_set_without_raw_files_lists_its_folder_whole(tmp_path):
    for name in ("coil20/obj1__0.png", "coil20/deep/obj2__0.png", "other/1.png", "coil20/.hidden"):
        write(tmp_path / name, b"x")
    assert not hasattr(load_plugin("datasets", "coil20"), "raw_files")
    options = plugin_options("datasets", {"name": "coil20"}, "test")
    names = raw_data.listed(options, tmp_path, "test")["name"].to_pylist()
    assert names == [b"coil20/deep/", b"coil20/deep/obj2__0.png", b"coil20/obj1__0.png"]


@pytest.fixture
def folder(tmp_path):
    """A prepared image_folder with a list of labels; gives the state of its split train."""
    for name in ("a.png", "b.png"):
        write(tmp_path / "data/mine/train" / name, name.encode())
    write(tmp_path / "data/mine/labels.csv", b"a.png,x\nb.png,y\n")
    options = plugin_options("datasets", {"name": "image_folder", "folder": "mine", "train_labels": "labels.csv"}, "test")
    place = prepared(tmp_path, options, "train", tmp_path / "data")
    return lambda: raw_data.state_of(place, options, "train", tmp_path / "data")


def test_the_list_of_labels_counts(folder, tmp_path):
    assert folder().kind == "same"
    write(tmp_path / "data/mine/labels.csv", b"a.png,x\nb.png,x\n")
    assert folder().text == "changed since it was prepared: 1 changed (mine/labels.csv)"
    write(tmp_path / "data/mine/labels.csv", b"a.png\n")
    assert "1 changed (mine/labels.csv); " in folder().text and "line 1: expected a path and a label" in folder().text
    (tmp_path / "data/mine/labels.csv").unlink()
    assert "1 deleted (mine/labels.csv); the list of labels" in folder().text
    shutil.rmtree(tmp_path / "data/mine")
    assert folder().kind == "gone"


def test_what_lies_in_the_folder_and_no_list_names_is_no_change(folder, tmp_path):
    write(tmp_path / "data/mine/train/c.png", b"c")
    assert folder().kind == "same"


def test_a_file_that_changed_while_it_was_prepared_has_changed(tmp_path):
    write(tmp_path / "data/mine/train/a.png", b"one")
    options, root = plugin_options("datasets", {"name": "image_folder", "folder": "mine"}, "test"), tmp_path / "data"
    listing = raw_data.listed(options, root, "train")
    write(root / "mine/train/a.png", b"two")
    os.utime(root / "mine/train/a.png", (5, 5))
    write(tmp_path / "out/manifest.json", b"{}")
    raw_data.keep(tmp_path / "out", options, "train", raw_data.with_contents(listing, root))
    assert (
        raw_data.state_of(tmp_path / "out", options, "train", root).text
        == "changed since it was prepared: 1 changed (mine/train/a.png)"
    )


def test_names_in_any_bytes_are_listed_and_said(folder, tmp_path):
    name = os.fsencode(tmp_path) + b"/data/mine/train/caf\xe9.png"
    write(Path(os.fsdecode(name)), b"x")
    (tmp_path / "data/mine/labels.csv").write_bytes(b"a.png,x\nb.png,y\ncaf\xe9.png,y\n")
    assert "1 added (mine/train/caf\\xe9.png), 1 changed (mine/labels.csv)" in folder().text
