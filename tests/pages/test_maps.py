"""The maps and walks of the report's first screen."""

import base64
import io
import re

import numpy as np
import pyarrow as pa
import pytest
from hostile import graph_files
from PIL import Image

from invp.data.tables import fixed_size_list
from invp.pages import maps
from invp.pages.numbers import Number, Numbers
from invp.plumbing.files import read_table, write_table


def study(**objective) -> dict:
    loaded = {name: {"title": title, "objective_options": objective} for name, title in (("a", "Ours"), ("b", "Theirs"))}
    return {"experiments": ["a", "b"], "seeds": [0], "loaded": loaded, "pictured": [["a", 0], ["a", 5]]}


@pytest.fixture
def inputs(tmp_path):
    return graph_files(tmp_path, "a/seed-0", (0, 5), ["cat", "dog"])


def test_a_map_before_and_one_after_with_every_image_once_by_class(inputs):
    numbers = Numbers([Number("a", 0, 5, "graph", "same_class_share", 0.976)])
    before, after = maps.maps(study(), inputs, numbers)
    assert (before.title, after.title) == ("Ours, before training", "Ours, epoch 5")
    assert before.caption == "" and after.caption == "98 of 100 edges join images of one class"
    assert after.seen == "12 of 12 training images, a point each, of 2 classes. 98 of 100 edges join images of one class."
    assert [cloud.name for cloud in after.clouds] == ["cat", "dog"]
    dots = [np.array(re.findall(r"M(\S+) (\S+)h0", cloud.path), float) for cloud in after.clouds]
    assert [len(own) for own in dots] == [6, 6]
    everything = np.concatenate(dots)
    assert (everything >= 0).all() and (everything <= [maps.WIDTH, maps.HEIGHT]).all()
    # The map has cos(i) and the class as the place of image i: dogs lie higher, and along the other axis the order is that of cos.
    assert dots[1][:, 1].max() < dots[0][:, 1].min()
    assert np.corrcoef(dots[0][:, 0], np.cos(np.arange(0, 12, 2)))[0, 1] > 0.999
    for cloud, own in zip(after.clouds, dots, strict=True):
        assert (np.abs(own - [cloud.x, cloud.y]) <= 0.5).all(1).any(), "the name lies on an image of the class"


def test_two_maps_show_the_images_that_are_on_both(inputs, tmp_path):
    """A large set's map holds a part of the images, which differs between runs; its stages are columns."""
    inputs["maps"] = [tmp_path / "one.arrow", tmp_path / "other.arrow"]
    for path, images in zip(inputs["maps"], ([0, 1, 2, 5], [1, 2, 3, 5]), strict=True):
        places = fixed_size_list(np.array([[i, -i] for i in images], np.float32))
        write_table(path, pa.table({"index": images, "stage-0": places, "stage-5": places}), {})
    for each in maps.maps(study(), inputs, Numbers([])):
        assert [cloud.path.count("M") for cloud in each.clouds] == [1, 2] and each.seen.startswith("3 of 12 training images")
        x = [float(x) for cloud in each.clouds for x in re.findall(r"M(\S+) ", cloud.path)]
        assert np.allclose((np.array(x) - x[1]) / (x[2] - x[1]), [0.25, 0, 1], atol=0.01), (
            "images 2, 1 and 5, from left to right by number"
        )


def test_of_a_large_set_a_seeded_sample_is_shown_and_of_many_classes_some(monkeypatch):
    monkeypatch.setattr(maps, "MOST_POINTS", 50)
    images, classes = maps.drawn(np.arange(300) % 3, 300, 0)
    assert len(images) == 50 and classes == 3 and (np.diff(images) > 0).all()
    images, classes = maps.drawn(np.arange(300) % 30, 300, 0)
    assert classes == len(maps.COLOURS) == len(np.unique(images % 30)) and len(images) == 50
    images, classes = maps.drawn(None, 300, 0)
    assert len(images) == 50 and classes == 0
    assert len({cloud.colour for cloud in maps.clouds(np.zeros((4, 2)), np.array([0, 1, 10, 11]), ["x" * 40] * 12)}) == 4


def test_walks_are_one_of_the_right_class_and_one_with_another(inputs):
    whole, mixed = maps.walks(study(positives="hard"), inputs)
    assert whole.words == "2 of the 2 positives that the loss takes are of the anchor's class" and mixed.words.startswith(
        "1 of the 2"
    )
    headings = [heading for heading, _ in mixed.groups]
    assert headings == ["nearest neighbours", "easy positives that the loss leaves", "hard positives that the loss takes"]
    assert [[tile.same for tile in tiles] for _, tiles in mixed.groups] == [[True] * 3, [True], [True, False]]
    assert [tile.caption for tile in mixed.groups[2][1]] == ["✓ 0.40", "✗ 0.30"]
    assert mixed.groups[2][1][1].seen == "image 8 of class cat, another class, similarity 0.30"
    picture = Image.open(io.BytesIO(base64.b64decode(mixed.groups[2][1][1].picture.split(",")[1])))
    assert picture.size == (2, 2) and np.asarray(picture.convert("L")).tolist() == [[8, 8], [8, 8]], "the pixels of image 8"
    assert maps.walks_note(inputs).startswith(
        "Of 12 anchors 11 have only positives of their class among those that the loss takes."
    )
    assert [heading for heading, _ in maps.walks(study(positives="easy"), inputs)[0].groups][2] == "positives that the loss takes"
    assert maps.maps({**study(), "pictured": []}, {}, Numbers([])) == maps.walks(study(), {}) == [] and maps.walks_note({}) == ""


def test_where_anchors_are_of_one_kind_alone_the_first_two_are_shown(inputs):
    pairs = read_table(inputs["walks"][1])
    right = pa.array([True] * 36)
    write_table(inputs["walks"][1], pairs.set_column(1, "positive", pairs["anchor"]).set_column(4, "chosen", right), {})
    assert [walk.words[:8] for walk in maps.walks(study(), inputs)] == ["3 of the", "3 of the"]
    assert maps.walks_note(inputs) == (
        "Of 12 anchors 12 have only positives of their class among those that the loss takes. Shown are, in an order drawn by the seed, the "
        "first two."
    )
