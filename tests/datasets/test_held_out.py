"""A set whose test images are training images of another one."""

import numpy as np
import pytest
from test_layouts import TREES

from invp.data.shards import Shards
from invp.plumbing.config import instance, plugin_options
from invp.plumbing.errors import UserError
from invp.plumbing.plugins import load_plugin
from invp.steps import prepare


def source(split: str, of: dict | None = None, **options):
    config = plugin_options("datasets", {"name": "held_out", "of": of or {"name": "digits"}, **options}, "test")
    plugin = load_plugin("datasets", "held_out")
    return plugin.load(instance(plugin.Config, config), None, split)


def names(split: str, **options) -> list[str]:
    found = source(split, **options)
    return [found.read(number).source for number in range(found.num_samples)]


def test_the_parts_are_the_training_images_each_once():
    digits = load_plugin("datasets", "digits")
    whole = digits.load(digits.Config(), None, "train")
    train, test = names("train", share=0.2), names("test", share=0.2)
    assert len(test) == round(0.2 * whole.num_samples) and not set(train) & set(test)
    assert sorted(train + test) == sorted(whole.read(number).source for number in range(whole.num_samples))
    order = {whole.read(number).source: number for number in range(whole.num_samples)}
    assert [order[name] for name in test] == sorted(order[name] for name in test)


def test_the_seed_chooses_and_the_rule_says_so():
    assert names("test") == names("test") != names("test", split_seed=1)
    assert source("test").listing != source("test", split_seed=1).listing != source("train").listing
    assert source("test").split_rule.endswith("of its train 0.1 held out for test, seed 0")


def test_what_the_other_set_chose_stays_chosen():
    few = {"name": "digits", "per_class": 20}
    parts = [source(split, few, share=0.25) for split in ("train", "test")]
    assert [part.num_samples for part in parts] == [150, 50]
    labels = [part.read(number).label for part in parts for number in range(part.num_samples)]
    assert np.bincount(labels).tolist() == [20] * 10


def test_test_images_of_the_other_set_are_not_read(tmp_path):
    TREES["held_out"](tmp_path)
    for path in (tmp_path / "mine/test").glob("*/*"):
        path.unlink()
    options = plugin_options("datasets", {"name": "held_out", **TREES["held_out"](tmp_path / "again")[1]}, "test")
    prepare.write_split(options, "test", tmp_path, tmp_path / "out", 1)
    assert Shards(tmp_path / "out").num_samples == 3


@pytest.mark.parametrize("share", [0.0001, 0.9999])
def test_a_share_that_leaves_nothing_is_an_error(share):
    with pytest.raises(UserError, match="share is .*; valid: what leaves some of the 1437 images on both sides"):
        source("train", share=share)


def test_an_unlabelled_set_stays_so(tmp_path):
    TREES["held_out"](tmp_path)
    (tmp_path / "plain/train").mkdir(parents=True)
    for number, path in enumerate(sorted((tmp_path / "mine/train").glob("*/*"))):
        path.rename(tmp_path / "plain/train" / f"{number}{path.suffix}")
    plugin = load_plugin("datasets", "held_out")
    for folder, labelled in (("mine", True), ("plain", False)):
        options = plugin_options("datasets", {"name": "held_out", "of": {"name": "image_folder", "folder": folder}}, "test")
        assert plugin.has_labels(instance(plugin.Config, options), tmp_path, "train") == labelled
