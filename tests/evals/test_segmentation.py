"""Segmentation: masks move as their images, IoU by hand and by torchmetrics, dilated stages as torchvision's, and what is frozen stays."""

import base64
import io
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import SMALL, prepared
from PIL import Image
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchvision.models import resnet50

from invp.core.metrics import confusion_matrix, intersection_over_union
from invp.data.masks import IGNORED
from invp.data.shards import Shards
from invp.evals import _segmenter, segmentation
from invp.evals._inputs import Saves
from invp.figures import segmentation as figure
from invp.models.encoders import Encoder, build_encoder
from invp.plumbing.errors import UserError

SCENES = {"name": "scenes", "size": 64, "train_images": 48, "test_images": 24, "num_classes": 2, "most": 2}
QUICK = {"steps": 3, "batch_size": 4, "crop": 48, "width": 8, "learning_rate": 0.05, "drops": []}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return prepared(SCENES, tmp_path_factory.mktemp("scenes"))


def inputs(folders, **options):
    torch.manual_seed(0)
    encoder = build_encoder({**SMALL, **options}, 64)
    return SimpleNamespace(
        encoder=encoder, train=folders["train"], test=folders["test"], mean=[0.5] * 3, std=[0.25] * 3, workers=1, saves=Saves()
    )


def test_iou_of_two_masks_by_hand():
    truth, answer = np.array([[0, 0, 1], [0, 2, 255]]), np.array([[0, 1, 1], [0, 0, 3]])
    confusion = confusion_matrix(answer[truth != 255], truth[truth != 255], 4)
    # Background: 2 of 4 (three true, three answered, two both). Class 1: 1 of 2. Class 2: 0 of 1. Class 3 is answered only where nothing counts.
    assert intersection_over_union(confusion).tolist()[:3] == [50, 50, 0] and math.isnan(intersection_over_union(confusion)[3])
    assert segmentation.scores_of(confusion) == {"miou": pytest.approx(100 / 3), "pixel_accuracy": 60}


class Fixed(torch.nn.Module):
    """A network that answers what it is given, in order."""

    def __init__(self, answers, num_classes):
        super().__init__()
        self.answers, self.num_classes = iter(answers), num_classes

    def forward(self, images):
        return torch.nn.functional.one_hot(next(self.answers).long(), self.num_classes).permute(2, 0, 1)[None].float()


def test_scores_of_a_test_split_are_torchmetrics_over_the_whole_set(scenes, monkeypatch):
    """Over the whole set, not the mean over images; and without pixels that do not count."""
    rng, shards = np.random.default_rng(0), Shards(scenes["test"])
    truth = {i: shards.mask(i).copy() for i in range(shards.num_samples)}
    for mask in truth.values():
        mask[rng.random(mask.shape) < 0.1] = IGNORED
    monkeypatch.setattr(shards, "mask", truth.__getitem__)
    answers = [torch.from_numpy(np.where(rng.random(m.shape) < 0.3, rng.integers(0, 3, m.shape), m % 255)) for m in truth.values()]
    confusion, _ = segmentation.tested(Fixed(answers, 3), inputs(scenes), shards, 0, "cpu")
    found = segmentation.scores_of(confusion)
    both = torch.stack(answers), torch.stack([torch.from_numpy(mask) for mask in truth.values()]).long()
    assert found["miou"] == pytest.approx(100 * float(MulticlassJaccardIndex(3, ignore_index=255)(*both)), rel=1e-5)
    accuracy = MulticlassAccuracy(3, average="micro", ignore_index=255)
    assert found["pixel_accuracy"] == pytest.approx(100 * float(accuracy(*both)), rel=1e-5)
    by_class = MulticlassJaccardIndex(3, ignore_index=255, average="none")(*both)
    assert intersection_over_union(confusion) == pytest.approx(100 * by_class.numpy(), rel=1e-5)


class Levels:
    """Shards of one image whose grey levels are its classes."""

    def __init__(self, mask):
        self.mask = lambda number: mask


@pytest.fixture
def levels(monkeypatch):
    """Makes such shards of a mask."""

    def of(mask):
        monkeypatch.setattr(segmentation, "photograph", lambda shards, number: np.stack([shards.mask(number)] * 3, 2))
        return Levels(mask)

    return of


PLAIN = SimpleNamespace(mean=[0.0] * 3, std=[1 / 255] * 3)  # pixels stay levels


@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize("draws", [(0.0, 0.0, 0.0, 0.1), (0.4, 0.3, 0.9, 0.7), (0.99, 0.99, 0.5, 0.2)])
def test_a_mask_is_cut_resized_and_mirrored_as_its_image(draws, flip, levels):
    """The image shows the classes as levels: away from borders of classes both are equal, and nothing of the image is a number between."""
    mask = np.kron(np.random.default_rng(0).integers(0, 21, (5, 7)), np.ones((16, 16))).astype(np.uint8)
    config = segmentation.Config(crop=60, scales=[0.5, 2.0], flip=flip)
    image, classes = segmentation.sample(levels(mask), 0, config, PLAIN, np.array(draws))
    assert image.shape == (3, 60, 60) and classes.shape == (60, 60) and set(classes.unique().tolist()) <= {*range(21), IGNORED}
    inside = classes != IGNORED
    assert (image[:, ~inside] == 0).all() and inside.any()
    padded = torch.nn.functional.pad(classes[None, None].float(), (2, 2, 2, 2), mode="replicate")
    patches = torch.nn.functional.unfold(padded, 5).reshape(25, 60, 60)
    even = (patches.amax(0) == patches.amin(0)) & inside
    assert even.float().mean() > 0.1
    assert torch.allclose(image[0][even], classes[even].float(), atol=1e-3)


def test_a_sample_without_change_of_size_is_a_part_of_its_image_exactly(levels):
    mask = np.random.default_rng(1).integers(0, 21, (40, 50)).astype(np.uint8)
    config = segmentation.Config(crop=24, scales=[1.0, 1.0])
    for draws, top, left in (((0, 0.0, 0.0, 0.9), 0, 0), ((0, 0.999, 0.999, 0.9), 16, 26), ((0, 0.5, 0.25, 0.1), 8, 6)):
        image, classes = segmentation.sample(levels(mask), 0, config, PLAIN, np.array(draws))
        expected = mask[top : top + 24, left : left + 24]
        expected = expected[:, ::-1] if draws[3] < 0.5 else expected
        assert np.array_equal(classes.numpy(), expected) and np.allclose(image[1].numpy(), expected, atol=1e-3)


def test_batches_go_on_where_they_stopped_and_differ_between_epochs(scenes):
    shards, config = Shards(scenes["train"]), segmentation.Config(**QUICK | {"steps": 14, "flip": False})
    whole = list(segmentation.batches(shards, config, inputs(scenes), 0))
    rest = list(segmentation.batches(shards, config, inputs(scenes), 0, start=5))
    assert [step for step, *_ in whole] == list(range(14)) and [step for step, *_ in rest] == list(range(5, 14))
    assert all(torch.equal(a[1], b[1]) and torch.equal(a[2], b[2]) for a, b in zip(whole[5:], rest, strict=True))
    assert not any(torch.equal(whole[0][1], later[1]) for later in whole[1:])


def test_a_dilated_stage_is_torchvisions_but_for_its_first_block():
    """torchvision gives the first block of a stage the dilation of the stage before."""
    torch.manual_seed(0)
    encoder = Encoder(resnet50()).eval()
    oracle = Encoder(resnet50(replace_stride_with_dilation=[False, False, True])).eval()
    oracle.load_state_dict(encoder.state_dict())
    oracle.layer4[0].conv2.dilation = oracle.layer4[0].conv2.padding = (2, 2)
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        before = _segmenter.maps(encoder, images)
        found = _segmenter.maps(_segmenter.dilated(encoder, 2), images)
        assert found.shape == (1, 2048, 4, 4) and torch.equal(found, _segmenter.maps(oracle, images))
        assert before.shape == (1, 2048, 2, 2) and torch.equal(before, _segmenter.maps(_segmenter.dilated(encoder, 1), images))
        for kind in ("rgb", "l+ab"):
            small = build_encoder({**SMALL, "input": kind, "width_share": 0.5}, 64).eval()
            sides = [_segmenter.maps(_segmenter.dilated(small, dilation), images).shape[2] for dilation in (1, 2)]
            assert sides == [16, 32]


@pytest.mark.parametrize("options", [
    {}, {"input": "l"}, {"input": "l+ab", "width_share": 0.5}, {"norm": "group"}, {"name": "pixels"}, {"stem": "imagenet"},
])  # fmt: skip
@pytest.mark.parametrize("mode", ["linear", "fcn"])
def test_every_encoder_gives_scores_of_the_images_size(mode, options, scenes):
    network = segmentation.network_of(segmentation.Config(mode=mode, **QUICK), inputs(scenes, **options), 3).eval()
    images = torch.randn(2, 3, 40, 52)
    assert network(images).shape == (2, 3, 40, 52)


@pytest.mark.parametrize("mode", ["linear", "fcn"])
def test_linear_leaves_the_network_as_it_is_and_fcn_trains_all_of_it(mode, scenes):
    given = inputs(scenes)
    before = {key: value.clone() for key, value in given.encoder.state_dict().items()}
    config = segmentation.Config(mode=mode, **QUICK)
    network, losses = segmentation.trained(config, given, Shards(scenes["train"]), seed=0, device="cpu")
    assert len(losses) == 3 and all(torch.equal(before[key], value) for key, value in given.encoder.state_dict().items())
    same = {key: torch.equal(before[key], value) for key, value in network.encoder.state_dict().items()}
    assert all(same.values()) if mode == "linear" else not any(same.values())


def test_a_class_is_found_from_zero_where_colours_tell_it(scenes, levels, monkeypatch):
    """What a linear head on pixels can tell, it tells: digits that are painted by their class."""
    given, paint = inputs(scenes, name="pixels"), np.array([[10, 40, 30], [250, 20, 20], [20, 30, 250]], np.uint8)
    monkeypatch.setattr(segmentation, "photograph", lambda shards, number: paint[shards.mask(number)])
    config = segmentation.Config(mode="linear", **QUICK | {"steps": 60, "learning_rate": 0.5})
    found = segmentation.evaluate(config, given, seed=0, device="cpu")
    assert found["metrics"]["miou"] > 95 and found["details"]["always_background"]["miou"] < 35


def test_pictures_are_the_images_with_their_masks_and_answers(scenes):
    shards = Shards(scenes["test"])
    answers = [torch.from_numpy(shards.mask(i)) for i in range(shards.num_samples)]
    confusion, kept = segmentation.tested(Fixed(answers, 3), inputs(scenes), shards, 3, "cpu")
    assert segmentation.scores_of(confusion) == {"miou": 100, "pixel_accuracy": 100}
    assert [row["image"] for row in kept] == [0, 12, 23]
    for row in kept:
        shown = {name: np.array(Image.open(io.BytesIO(base64.b64decode(row[name])))) for name in ("input", "truth", "answer")}
        assert np.array_equal(shown["input"], np.asarray(shards.decoded(row["image"])))
        assert np.array_equal(shown["truth"], shards.mask(row["image"])) and np.array_equal(shown["answer"], shown["truth"])


def test_sets_without_masks_are_refused_and_so_is_a_loss_that_is_no_number(digits, scenes):
    with pytest.raises(UserError, match="has no masks: segmentation needs a set such as sbd, voc2012_segmentation or scenes"):
        segmentation.evaluate(segmentation.Config(**QUICK), inputs(digits), seed=0, device="cpu")
    wild = segmentation.Config(**QUICK | {"learning_rate": 1e30})
    with pytest.raises(UserError, match="lower learning_rate"):
        segmentation.evaluate(wild, inputs(scenes), seed=0, device="cpu")


def test_masks_of_the_test_choose_nothing(scenes, monkeypatch):
    """With other test masks the same network is trained: its answers are the same."""
    config = segmentation.Config(mode="linear", **QUICK)
    first = segmentation.evaluate(config, inputs(scenes), seed=0, device="cpu")
    own = Shards.mask
    monkeypatch.setattr(Shards, "mask", lambda self, i: own(self, i) if self.folder == scenes["train"] else own(self, i)[::-1])
    again = segmentation.evaluate(config, inputs(scenes), seed=0, device="cpu")
    kept = [[row["answer"] for row in found["details"]["pictures"]] for found in (first, again)]
    assert kept[0] == kept[1] and first["details"]["loss"] == again["details"]["loss"]


def test_the_figure_shows_vocs_colours_and_says_what_share_is_right(tmp_path):
    assert figure.colours()[[0, 1, 2, 12, 15, 20, IGNORED]].tolist() == [
        [0, 0, 0], [128, 0, 0], [0, 128, 0], [64, 0, 128], [192, 128, 128], [0, 64, 128], [255, 255, 255],
    ]  # fmt: skip
    truth = np.array([[0, 1], [2, IGNORED]], np.uint8)
    rows = {"input": np.zeros((2, 2, 3), np.uint8), "truth": truth, "answer": np.array([[0, 2], [2, 1]], np.uint8)}
    picture = {"image": 7, **{name: segmentation.as_text(values) for name, values in rows.items()}}
    details = {"classes": ["background", "_a", "$b$"], "pictures": [picture, picture]}
    content = {"eval": "mine", "evaluation": {"name": "segmentation"}, "metrics": {"miou": 40.0}, "details": details}
    other = {"eval": "knn", "evaluation": {"name": "knn"}, "metrics": {"top1": 1.0}, "details": {}}
    given = SimpleNamespace(metrics=[other, content], experiment={"title": "t", "experiment": "e"})
    found = figure.draw(figure.Config(images=1), given, tmp_path / "figure.png")
    assert found == {"mine": {"images": [7], "right": [pytest.approx(200 / 3)], "miou": 40.0}}
    assert min(Image.open(tmp_path / "figure.png").size) > 150
    given.metrics.pop()
    with pytest.raises(UserError, match="pictures above 0, and there are none"):
        figure.draw(figure.Config(), given, tmp_path / "figure.png")
