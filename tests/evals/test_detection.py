"""Detection: boxes and schedule by hand, AP by VOC's rule and by COCO's own tool, and a detector that learns from zero on VOC's true layout."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import SMALL, encoder_inputs, prepared
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from invp.data.shards import Shards
from invp.evals import detection
from invp.evals._inputs import Saves
from invp.models.encoders import build_encoder
from invp.plumbing.config import plugin_options
from invp.plumbing.errors import UserError
from invp.steps import prepare
from invp.steps.evaluate import evaluated

NAMES = ("ap", "ap50", "ap75", "coco_ap", "coco_ap50", "coco_ap75")
SCENES = {"name": "scenes", "size": 64, "train_images": 48, "test_images": 24, "num_classes": 2, "most": 2}
QUICK = {
    "batch_size": 4, "learning_rate": 0.02, "warmup": 20, "train_sizes": [64], "test_size": 64, "longest": 64,
    "anchors": [12, 18, 26], "pooled": 7, "regions": 64,
}  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    prepared(SCENES, folder)
    return folder


def inputs(folder):
    torch.manual_seed(0)
    encoder = build_encoder({**SMALL, "width": 16}, 64)
    return SimpleNamespace(
        encoder=encoder, train=folder / "train", test=folder / "test", mean=[0.5] * 3, std=[0.25] * 3, workers=1, saves=Saves()
    )


def as_voc(shards: Shards, root, name: str):
    """The scenes as a tree in PASCAL VOC's layout: JPEG, XML that counts from 1, and the list `name`."""
    folder = root / "VOCdevkit/VOC2007"
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for i in range(shards.num_samples):
        shards.decoded(i).save(folder / f"JPEGImages/{name}{i}.jpg", quality=95)
        boxes, labels, _ = shards.boxes(i)
        objects = "".join(
            f"<object><name>{shards.classes[label]}</name><difficult>0</difficult><bndbox><xmin>{int(x1) + 1}</xmin>"
            f"<ymin>{int(y1) + 1}</ymin><xmax>{int(x2)}</xmax><ymax>{int(y2)}</ymax></bndbox></object>"
            for (x1, y1, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True)
        )
        (folder / f"Annotations/{name}{i}.xml").write_text(f"<annotation>{objects}</annotation>")
    (folder / f"ImageSets/Main/{name}.txt").write_text("".join(f"{name}{i}\n" for i in range(shards.num_samples)))


def test_it_learns_from_zero_on_a_tree_in_vocs_layout(scenes, tmp_path):
    for split, name in (("train", "trainval"), ("test", "test")):
        as_voc(Shards(scenes / split), tmp_path, name)
    for split, folder in prepared({"name": "voc2007", "classes": ["0", "1"]}, tmp_path, tmp_path).items():
        for i in range(0, Shards(folder).num_samples, 7):
            assert torch.equal(Shards(folder).boxes(i)[0], Shards(scenes / split).boxes(i)[0])
    config = detection.Config(steps=150, drops=[120], curve=[0, 150], **QUICK)
    found = evaluated(detection, config, inputs(tmp_path), {}, seed=0, device="cpu")
    first, last = found["details"]["curve"]
    assert first["ap"] < 1 and last["ap"] > 15 and found["metrics"]["ap"] > 8
    assert found["metrics"]["ap50"] > found["metrics"]["ap"] and found["metrics"]["ap50"] > 25
    assert len(found["details"]["average_precision"]) == 2


class Fixed(torch.nn.Module):
    """A detector that answers what it is given, in order."""

    def __init__(self, answers):
        super().__init__()
        self.answers, self.transform = iter(answers), SimpleNamespace(min_size=(64,))

    def forward(self, images):
        return [next(self.answers)]


def answer(boxes, labels, scores):
    return {"boxes": boxes, "labels": labels + 1, "scores": torch.tensor(scores)}


def test_perfect_boxes_score_a_hundred_and_shifted_ones_less(scenes):
    shards = Shards(scenes / "test")
    numbers, config = list(range(shards.num_samples)), detection.Config(**QUICK)
    truth = [shards.boxes(i) for i in numbers]
    perfect = [answer(b, c, [0.9] * len(c)) for b, c, _ in truth]
    found = detection.precisions(Fixed(perfect), shards, numbers, config, "cpu")
    assert all(found[name] == pytest.approx(100) for name in NAMES)
    assert found["by_class"] == [{"class": name, "ap": 100, "ap50": 100, "ap75": 100} for name in shards.classes]
    # Moved by a third of the width the boxes overlap by half: IoU (2/3) / (4/3) = .5. A tenth of a pixel more survives the rounding.
    moved = [answer(b + torch.stack([(b[:, 2] - b[:, 0]) / 3 + 0.1] * 4, 1) * torch.tensor([1.0, 0, 1, 0]), c, [0.9] * len(c))
             for b, c, _ in truth]  # fmt: skip
    assert detection.precisions(Fixed(moved), shards, numbers, config, "cpu")["ap50"] == pytest.approx(0)
    wrong = [answer(b, 1 - c, [0.9] * len(c)) for b, c, _ in truth]
    assert detection.precisions(Fixed(wrong), shards, numbers, config, "cpu")["ap"] < 50


def test_difficult_objects_do_not_count(scenes, monkeypatch):
    shards = Shards(scenes / "test")
    number = next(i for i in range(shards.num_samples) if len(shards.boxes(i)[0]) == 2)
    boxes, labels, _ = shards.boxes(number)
    monkeypatch.setattr(shards, "boxes", lambda i: (boxes, labels, torch.tensor([False, True])))
    only_the_plain_one = [answer(boxes[:1], labels[:1], [0.9])]
    assert detection.precisions(Fixed(only_the_plain_one), shards, [number], detection.Config(**QUICK), "cpu")[
        "ap"
    ] == pytest.approx(100)
    both = [answer(boxes, labels, [0.8, 0.9])]
    found = detection.precisions(Fixed(both), shards, [number], detection.Config(**QUICK), "cpu")
    assert found["ap"] == found["coco_ap"] == pytest.approx(100)


def test_vocs_rule_and_cocos_differ_inside_a_difficult_object(scenes, monkeypatch):
    """By VOC's a box of IoU .09 with the difficult object is wrong; by COCO's it lies in a crowd, and does not count."""
    shards = Shards(scenes / "test")
    plain, difficult, inside = [0, 0, 50, 50], [100, 100, 200, 200], [100, 100, 130, 130]
    truth = torch.tensor([plain, difficult]).float(), torch.zeros(2, dtype=torch.long), torch.tensor([False, True])
    monkeypatch.setattr(shards, "boxes", lambda i: truth)
    said = answer(torch.tensor([plain, inside]).float(), torch.zeros(2, dtype=torch.long), [0.5, 0.9])
    found = detection.precisions(Fixed([said]), shards, [0], detection.Config(**QUICK), "cpu")
    assert [found[name] for name in NAMES] == pytest.approx([50, 50, 50, 100, 100, 100])
    assert found["by_class"][1] == {"class": shards.classes[1], "ap": None, "ap50": None, "ap75": None}
    nothing = (truth[0][1:], truth[1][1:], truth[2][1:])
    monkeypatch.setattr(shards, "boxes", lambda i: nothing)
    with pytest.raises(UserError, match="no object that is not marked difficult"):
        detection.precisions(Fixed([said]), shards, [0], detection.Config(**QUICK), "cpu")


@pytest.mark.parametrize("seed", range(3))
def test_cocos_numbers_are_pycocotools_own(scenes, monkeypatch, seed):
    """A hundred objects a class, so that many recalls are k/100, and IoUs of k/20: thresholds a rounding error too large show."""
    shards, rng = Shards(scenes / "test"), np.random.default_rng(seed)
    numbers, truth, answers = list(range(shards.num_samples)), [], []
    for classes in np.array_split(rng.permutation(np.repeat([0, 1], 100)), len(numbers)):
        count = len(classes)
        corner = rng.integers(0, 200, (count, 2))
        boxes = torch.from_numpy(np.concatenate([corner, corner + 20 * rng.integers(1, 5, (count, 2))], 1)).float()
        difficult = torch.from_numpy(rng.random(count) < (0.2 if seed == 2 else 0))
        moved = boxes + torch.from_numpy(rng.integers(-6, 7, boxes.shape))
        cut = boxes.clone()
        cut[:, 3] -= (boxes[:, 3] - boxes[:, 1]) * torch.from_numpy(rng.integers(1, 10, count)) / 20
        found = torch.where(torch.from_numpy(rng.random(count) < 0.5)[:, None], moved, cut)
        kept = torch.from_numpy(rng.random(count) < 0.9).nonzero()[:, 0]
        scores = rng.permutation(np.linspace(0.1, 1, len(kept) + 1)).tolist()
        truth.append((boxes, torch.from_numpy(classes), difficult))
        labels = torch.from_numpy(classes)[torch.cat([kept, kept[:1]])]
        answers.append(answer(torch.cat([found[kept], boxes[:1] + 40]), labels, scores))
    monkeypatch.setattr(shards, "boxes", lambda i: truth[i])
    found = detection.precisions(Fixed(answers), shards, numbers, detection.Config(**QUICK), "cpu")
    assert [found[name] for name in NAMES[3:]] == pytest.approx(by_pycocotools(truth, answers), abs=1e-4)


def by_pycocotools(truth, answers) -> list[float]:
    """COCO's AP, AP50 and AP75 in %, by its own tool from annotations in its own format."""

    def sized(boxes):
        return [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes.tolist()]

    objects = [
        {"image_id": i + 1, "category_id": int(label) + 1, "bbox": box, "area": box[2] * box[3], "iscrowd": int(crowd)}
        for i, (boxes, labels, difficult) in enumerate(truth)
        for box, label, crowd in zip(sized(boxes), labels, difficult, strict=True)
    ]
    coco = COCO()
    coco.dataset = {
        "images": [{"id": i + 1} for i in range(len(truth))], "categories": [{"id": 1}, {"id": 2}],
        "annotations": [{"id": n + 1, **each} for n, each in enumerate(objects)],
    }  # fmt: skip
    coco.createIndex()
    said = [
        {"image_id": i + 1, "category_id": int(label), "bbox": box, "score": float(score)}
        for i, each in enumerate(answers)
        for box, label, score in zip(sized(each["boxes"]), each["labels"], each["scores"], strict=True)
    ]
    evaluation = COCOeval(coco, coco.loadRes(said), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return (100 * evaluation.stats[:3]).tolist()


def test_a_mirrored_sample_has_mirrored_boxes(scenes):
    shards = Shards(scenes / "train")
    for number in range(10):
        (image, target), (mirrored, other) = detection.sample(shards, number, False), detection.sample(shards, number, True)
        assert torch.equal(mirrored, image.flip(-1)) and torch.equal(other["labels"], target["labels"])
        for (x1, y1, x2, y2), (u1, v1, u2, v2) in zip(target["boxes"].int().tolist(), other["boxes"].int().tolist(), strict=True):
            assert torch.equal(mirrored[:, v1:v2, u1:u2], image[:, y1:y2, x1:x2].flip(-1))


def test_boxes_lie_where_the_digits_are(scenes):
    """Inside a box is a digit: brighter than what surrounds it."""
    shards, brighter = Shards(scenes / "train"), []
    for number in range(shards.num_samples):
        pixels = np.asarray(shards.decoded(number).convert("L"), np.float32)
        for x1, y1, x2, y2 in shards.boxes(number)[0].int().tolist():
            brighter.append(pixels[y1:y2, x1:x2].max() > 200)
            assert 0 <= x1 < x2 <= 64 and 0 <= y1 < y2 <= 64
    assert np.mean(brighter) > 0.9


def test_the_published_layout_of_a_resnet50():
    encoder = build_encoder({**SMALL, "name": "resnet50"}, 64)
    network = detection.detector(encoder, 20, detection.Config(), [0.5] * 3, [0.25] * 3)
    assert network.backbone.out_channels == 1024 and network.roi_heads.box_head.norm.num_features == 2048
    assert network.roi_heads.box_predictor.cls_score.out_features == 21
    assert all(p.requires_grad for p in network.parameters()), "nothing is frozen"
    maps = network.backbone.eval()(torch.zeros(1, 3, 64, 96))
    assert maps.shape == (1, 1024, 4, 6), "a stride of 16"
    own = dict(encoder.named_parameters())
    assert torch.equal(network.roi_heads.box_head.last[0].conv1.weight, own["layer4.0.conv1.weight"])


def test_the_schedule():
    config = detection.Config()
    assert detection.factor(config, 0) == pytest.approx(0.001) and detection.factor(config, 100) == 1
    assert detection.factor(config, 18000) == pytest.approx(0.1) and detection.factor(config, 23000) == pytest.approx(0.01)


def test_sets_without_boxes_and_encoders_without_stages_are_refused(digits, scenes):
    with pytest.raises(UserError, match="has no boxes"):
        evaluated(detection, detection.Config(steps=1), encoder_inputs(digits), {}, seed=0, device="cpu")
    looked_at = inputs(scenes)
    looked_at.encoder = build_encoder({**SMALL, "name": "pixels"}, 8)
    with pytest.raises(UserError, match="no stages"):
        evaluated(detection, detection.Config(steps=1), looked_at, {}, seed=0, device="cpu")


def test_scenes_are_the_same_again(scenes, tmp_path):
    prepare.write_split(plugin_options("datasets", SCENES, "test"), "test", None, tmp_path, 1)
    first, again = Shards(scenes / "test"), Shards(tmp_path)
    assert all(np.array_equal(first.decoded(i), again.decoded(i)) for i in range(24))
    assert isinstance(first.decoded(0), Image.Image)
