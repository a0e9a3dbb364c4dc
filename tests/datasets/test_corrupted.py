"""Corrupted test images: published constants, formulas against loops and other libraries, splits, and CIFAR-10-C's own files."""

import colorsys
import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import convolve
from test_layouts import TREES

from invp.data.shards import Shards
from invp.datasets import _corruptions
from invp.datasets._corruptions import CONSTANTS
from invp.datasets.composites import photographs
from invp.evals._inputs import FeatureInputs, FeatureTable
from invp.plumbing import needs
from invp.plumbing.config import instance, plugin_options
from invp.plumbing.errors import UserError
from invp.plumbing.plugins import load_plugin
from invp.steps import prepare

# As in the authors' make_cifar_c.py (32 px), and in their imagenet_c/corruptions.py (224 px).
PUBLISHED = {
    "gaussian_noise": ([0.04, 0.06, 0.08, 0.09, 0.10], [0.08, 0.12, 0.18, 0.26, 0.38]),
    "shot_noise": ([500, 250, 100, 75, 50], [60, 25, 12, 5, 3]),
    "impulse_noise": ([0.01, 0.02, 0.03, 0.05, 0.07], [0.03, 0.06, 0.09, 0.17, 0.27]),
    "speckle_noise": ([0.06, 0.1, 0.12, 0.16, 0.2], [0.15, 0.2, 0.35, 0.45, 0.6]),
    "gaussian_blur": ([0.4, 0.6, 0.7, 0.8, 1], [1, 2, 3, 4, 6]),
    "defocus_blur": ([(0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1)], [(3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)]),
    "motion_blur": ([(6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5)], [(10, 3), (15, 5), (15, 8), (15, 12), (20, 15)]),
    "zoom_blur": (
        [(1.06, 0.01), (1.11, 0.01), (1.16, 0.01), (1.21, 0.01), (1.26, 0.01)],
        [(1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)],
    ),
    "brightness": ([0.05, 0.1, 0.15, 0.2, 0.3], [0.1, 0.2, 0.3, 0.4, 0.5]),
    "contrast": ([0.75, 0.5, 0.4, 0.3, 0.15], [0.4, 0.3, 0.2, 0.1, 0.05]),
    "saturate": ([(0.3, 0), (0.1, 0), (1.5, 0), (2, 0.1), (2.5, 0.2)], [(0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)]),
    "elastic_transform": (
        [(0, 0, 2.56), (1.6, 6.4, 2.24), (2.56, 1.92, 1.92), (3.2, 1.28, 1.6), (3.2, 0.96, 0.96)],
        [(488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88), (29.28, 2.44, 4.88)],
    ),
    "pixelate": ([0.95, 0.9, 0.85, 0.75, 0.65], [0.6, 0.5, 0.4, 0.3, 0.25]),
    "jpeg_compression": ([80, 65, 58, 50, 40], [25, 18, 15, 10, 7]),
}  # fmt: skip
UNORDERED = ("saturate", "elastic_transform")  # whose published severities do not rise in squared difference


def images(side: int, count: int) -> list[np.ndarray]:
    """Parts of scikit-learn's photographs, HxWx3."""
    rng, found = np.random.default_rng(0), []
    for number in range(count):
        whole = Image.fromarray(photographs()[number % 2])
        left, top = (int(rng.integers(0, edge - 200)) for edge in whole.size)
        found.append(np.asarray(whole.crop((left, top, left + 200, top + 200)).resize((side, side), Image.Resampling.BILINEAR)))
    return found


def made(image: np.ndarray, kind: str, severity: int, seed: int = 0) -> np.ndarray:
    return _corruptions.corrupted(image, kind, severity, np.random.default_rng(seed))


def test_the_constants_are_the_published_ones():
    assert set(PUBLISHED) == set(CONSTANTS)
    for kind, (small, large) in PUBLISHED.items():
        for found, expected, side in ((CONSTANTS[kind][0], small, 32), (CONSTANTS[kind][1], large, 224)):
            scale = side if kind == "elastic_transform" else 1  # published in px, kept as shares of the side
            assert np.allclose(scale * np.array(found), np.array(expected)), kind


@pytest.mark.parametrize("kind", CONSTANTS)
def test_a_higher_severity_changes_more(kind):
    sets = [[image for image in images(32, 8)], [image[..., :1] for image in images(32, 8)], images(100, 2)]
    for number, own in enumerate(sets):
        if kind == "saturate" and number == 1:
            continue
        if number == 2 and kind in ("zoom_blur", "elastic_transform"):
            own = own[:1]  # slow
        means = []
        for severity in range(1, 6):
            found = [made(image, kind, severity, seed) for seed, image in enumerate(own)]
            assert all(a.shape == b.shape and a.dtype == np.uint8 for a, b in zip(found, own, strict=True))
            means.append(np.mean([(a.astype(float) - b) ** 2 for a, b in zip(found, own, strict=True)]))
        assert means[0] > 0
        if kind not in UNORDERED:
            # Severities 3 and 4 of motion blur differ by what lies beyond three standard deviations.
            assert all(
                a < b or (kind == "motion_blur" and a == pytest.approx(b, rel=0.01)) for a, b in zip(means, means[1:], strict=False)
            )


@pytest.mark.parametrize("kind", CONSTANTS)
def test_the_same_seed_gives_the_same_image_and_another_another(kind):
    image = images(32, 1)[0]
    first = made(image, kind, 3)
    assert np.array_equal(first, made(image, kind, 3))
    random = kind.endswith("noise") or kind in ("motion_blur", "elastic_transform")
    assert np.array_equal(first, made(image, kind, 3, seed=1)) != random


def test_noise_has_the_moments_that_its_constant_says():
    grey = np.full((200, 200, 3), 128, np.uint8)
    share = 128 / 255
    for kind, deviation in (("gaussian_noise", 0.38), ("shot_noise", (share / 3) ** 0.5), ("speckle_noise", 0.6 * share)):
        levels = _corruptions.FUNCTIONS[kind](grey, CONSTANTS[kind][1][4], np.random.default_rng(0)) / 255
        assert levels.mean() == pytest.approx(share, abs=0.01) and levels.std() == pytest.approx(deviation, rel=0.02)
    found = made(grey, "impulse_noise", 5)
    assert (found == 0).mean() == pytest.approx(0.135, abs=0.01) and (found == 255).mean() == pytest.approx(0.135, abs=0.01)
    assert set(np.unique(found)) == {0, 128, 255}


def test_formulas_equal_slow_loops():
    image = images(32, 1)[0]
    contrast, brightness, saturate = (made(image, kind, 4) for kind in ("contrast", "brightness", "saturate"))
    for row, column in np.ndindex(6, 6):
        pixel = image[row, column] / 255
        mean = [sum(float(v) for v in image[..., c].ravel()) / 255 / 1024 for c in range(3)]
        expected = [255 * ((pixel[c] - mean[c]) * 0.3 + mean[c]) for c in range(3)]
        assert np.abs(contrast[row, column] - expected).max() <= 1
        h, s, v = colorsys.rgb_to_hsv(*pixel)
        assert np.abs(brightness[row, column] - 255 * np.array(colorsys.hsv_to_rgb(h, s, min(1, v + 0.2)))).max() <= 1
        assert np.abs(saturate[row, column] - 255 * np.array(colorsys.hsv_to_rgb(h, min(1, 2 * s + 0.1), v))).max() <= 1
    assert made(np.full((8, 8, 1), 100, np.uint8), "brightness", 5)[0, 0, 0] == int(100 + 0.3 * 255)


@pytest.mark.parametrize("angle", [-40, 0, 17, 45])
def test_motion_blur_is_imagemagicks(angle):
    """Of each pixel the weighted mean of those that lie along the line, at whole places; beyond the edge the edge's pixels."""
    radius, sigma, image = 6, 2.0, images(32, 1)[0][..., 0].astype(float)
    width, line = 2 * radius + 1, np.deg2rad(angle)
    weights = [np.exp(-i * i / (2 * sigma**2)) for i in range(width)]
    places = [(int(np.ceil(i * np.sin(line) - 0.5)), int(np.ceil(i * np.cos(line) - 0.5))) for i in range(width)]
    padded, kernel = np.pad(image, 20, mode="edge"), _corruptions.trail(radius, sigma, line)
    for y, x in ((0, 0), (31, 31), (10, 20), (5, 30)):
        expected = sum(w * padded[20 + y + dy, 20 + x + dx] for w, (dy, dx) in zip(weights, places, strict=True)) / sum(weights)
        window = padded[20 + y - 2 * radius : 20 + y + width, 20 + x - 2 * radius : 20 + x + width]
        assert (window * kernel).sum() == pytest.approx(expected)

    class Fixed:
        uniform = staticmethod(lambda low, high: angle)

    blurred = _corruptions.motion_blur(image[..., None].astype(np.uint8), (radius, sigma), Fixed)
    full = convolve(image, kernel[::-1, ::-1], mode="nearest")
    assert np.abs(blurred - np.rint(full)).max() <= 1


def test_blurs_equal_scipys_convolution_and_jpeg_and_pixelate_pillows():
    image = images(32, 1)[0]
    kernel = _corruptions.disk(1.5, 0.1)
    expected = np.stack([convolve(image[..., c] / 255, kernel, mode="mirror") for c in range(3)], -1) * 255
    assert kernel.sum() == pytest.approx(1) and (kernel > 1e-3).sum() == 9
    assert np.abs(made(image, "defocus_blur", 5) - np.floor(expected)).max() <= 1
    reach = np.arange(-4, 5)
    bell = np.exp(-(reach**2) / 2) / np.exp(-(reach**2) / 2).sum()
    expected = np.stack([convolve(image[..., c] / 255, np.outer(bell, bell), mode="nearest") for c in range(3)], -1) * 255
    assert np.abs(made(image, "gaussian_blur", 5) - np.floor(expected)).max() <= 1
    out = io.BytesIO()
    Image.fromarray(image).save(out, "JPEG", quality=40)
    assert np.array_equal(made(image, "jpeg_compression", 5), np.asarray(Image.open(out)))
    small = Image.fromarray(image).resize((20, 20), Image.Resampling.BOX)
    assert np.array_equal(made(image, "pixelate", 5), np.asarray(small.resize((32, 32), Image.Resampling.BOX)))


def test_what_moves_pixels_leaves_one_colour_as_it_is():
    grey = np.full((24, 40, 3), 77, np.uint8)
    for kind in ("elastic_transform", "zoom_blur", "pixelate", "motion_blur"):
        assert np.abs(made(grey, kind, 5).astype(int) - 77).max() <= 1, kind
    point = np.zeros((33, 33, 1), np.uint8)
    point[16, 16] = 255
    assert np.unravel_index(made(point, "zoom_blur", 5).argmax(), point.shape)[:2] == (16, 16)


def source(split: str, root=None, **options):
    checked = plugin_options("datasets", {"name": "corrupted", "corruption": "gaussian_noise", "severity": 3, **options}, "test")
    plugin = load_plugin("datasets", checked["name"])
    return plugin.load(instance(plugin.Config, checked), root, split)


def test_only_the_test_split_is_corrupted_each_image_by_its_number():
    digits = load_plugin("datasets", "digits")
    for split in ("train", "test"):
        clean, found = digits.load(digits.Config(), None, split), source(split, of={"name": "digits"})
        assert (found.num_samples, found.classes, found.shape) == (clean.num_samples, clean.classes, clean.shape)
        pairs = [(clean.read(n), found.read(n)) for n in range(20)]
        assert all((a.label, a.source) == (b.label, b.source) for a, b in pairs)
        assert all(np.array_equal(a.image, b.image) == (split == "train") for a, b in pairs)
        assert (clean.listing == found.listing) == (split == "train")
    assert np.array_equal(found.read(7).image, source("test", of={"name": "digits"}).read(7).image)
    other = source("test", of={"name": "digits"}, split_seed=1)
    assert not np.array_equal(found.read(7).image, other.read(7).image) and other.listing != found.listing
    differences = [found.read(n).image.astype(int) - digits.load(digits.Config(), None, "test").read(n).image for n in (1, 2)]
    assert not np.array_equal(*differences)


def test_several_labels_boxes_and_known_numbers_pass_through():
    scenes = {"name": "scenes", "size": 48, "train_images": 4, "test_images": 3}
    plugin = load_plugin("datasets", "scenes")
    clean = plugin.load(instance(plugin.Config, plugin_options("datasets", scenes, "test")), None, "test")
    found = source("test", of=scenes, corruption="brightness")
    assert found.multi_label and found.format == "encoded"
    for number in range(3):
        before, after = clean.read(number), found.read(number)
        assert (before.labels, before.boxes, before.difficult) == (after.labels, after.boxes, after.difficult)
        one, two = (np.asarray(Image.open(io.BytesIO(s.image))).astype(int) for s in (before, after))
        assert one.shape == two.shape and (two - one).mean() > 10
    study = {"datasets": {"noisy": {"name": "corrupted", "of": scenes}, "plain": {"name": "corrupted", "of": {"name": "digits"}}}}
    assert needs.has_several_labels(study["datasets"]["noisy"]) and not needs.has_several_labels(study["datasets"]["plain"])
    assert source("test", of={"name": "composites", "size": 16, "test_images": 3}).read(0).targets is not None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"corruption": "gausian_noise"}, "corruption is 'gausian_noise'; valid: gaussian_noise, shot_noise"),
        ({"severity": 6}, "severity is 6; valid: a whole number, at least 1, at most 5"),
        ({"of": {"name": "digit"}}, "test.of: there is no 'digit' in invp/datasets; did you mean 'digits'?"),
        ({"of": {"name": "digits", "test_images": 0}}, "test.of: test_images is 0; valid"),
        ({"of": {}}, "test.of needs a 'name'"),
        ({"corruption": "fog"}, "corruption is 'fog', which is not made but read, .*valid without them: gaussian_noise, "),
        ({"corruption": "saturate"}, "corruption is 'saturate', and digits has no colours"),
        ({"per_class": 3}, "per_class is 3, which this set has no use for"),
    ],
)
def test_a_wrong_option_says_what_is_valid(options, words):
    with pytest.raises(UserError, match=words):
        source("test", **{"of": {"name": "digits"}, **options})


def test_the_other_sets_defaults_are_in_the_section_and_its_code_in_the_digest():
    options = {"name": "corrupted", "of": {"name": "digits"}, "corruption": "contrast", "severity": 1}
    checked = plugin_options("datasets", options, "test")
    assert checked["of"] == plugin_options("datasets", {"name": "digits"}, "test")
    assert prepare.loads({"dataset": checked}) == ["invp.datasets.corrupted", "invp.datasets.digits"]


@pytest.fixture
def cifar10_c(tmp_path, monkeypatch):
    """CIFAR-10 as torchvision has it, of few images, and CIFAR-10-C's fog in its true layout: 50,000 images, 10,000 a severity."""
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5=None: True)
    TREES["cifar10"](tmp_path)
    (tmp_path / "CIFAR-10-C").mkdir()
    shape = (50_000, 32, 32, 3)
    pixels = np.lib.format.open_memmap(tmp_path / "CIFAR-10-C/fog.npy", "w+", np.uint8, shape)  # a sparse file
    for severity in range(1, 6):
        pixels[(severity - 1) * 10_000] = severity
        pixels[severity * 10_000 - 1, 1, 2] = (10 * severity, 0, 7)
    pixels.flush()
    np.save(tmp_path / "CIFAR-10-C/labels.npy", np.tile(np.arange(10_000) % 10, 5).astype(np.uint8))
    return tmp_path


@pytest.mark.parametrize("severity", [1, 4])
def test_cifar_10_c_is_read_from_its_own_files(cifar10_c, severity):
    options = {"name": "corrupted", "of": {"name": "cifar10"}, "corruption": "fog", "severity": severity}
    prepare.write_split(plugin_options("datasets", options, "test"), "test", cifar10_c, cifar10_c / "out", 1)
    shards = Shards(cifar10_c / "out")
    assert shards.num_samples == 10_000 and shards.labels.tolist() == [n % 10 for n in range(10_000)]
    assert shards.manifest["split_rule"] == f"fog of severity {severity}, official"
    first, last = shards.images(torch.tensor([0, 9_999]))
    assert first.shape == (3, 32, 32) and (first == severity).all()
    assert last[:, 1, 2].tolist() == [10 * severity, 0, 7] and last.sum() == 10 * severity + 7
    assert source("train", cifar10_c, **options).num_samples == 20, "clean"


def test_files_of_another_shape_are_refused_and_kinds_without_a_file_made(cifar10_c):
    assert source("test", cifar10_c, of={"name": "cifar10"}).num_samples == 4, "gaussian noise has no file here"
    np.save(cifar10_c / "CIFAR-10-C/contrast.npy", np.zeros((10, 32, 32, 3), np.uint8))
    with pytest.raises(UserError, match=r"contrast.npy holds uint8 of shape \(10, 32, 32, 3\); expected uint8 of shape \(50000"):
        source("test", cifar10_c, of={"name": "cifar10"}, corruption="contrast")


def features(folder) -> FeatureTable:
    """The pixels of a prepared split as features."""
    shards = Shards(folder)
    rows = shards.images(torch.arange(shards.num_samples)).flatten(1).numpy().astype(np.float32) / 255
    return FeatureTable(rows, rows, shards.labels.numpy(), np.arange(len(rows)))


@pytest.mark.parametrize("name", ["knn", "linear"])
def test_an_evaluation_measures_corrupted_digits_as_any_set(name, digits, tmp_path):
    options = {"name": "corrupted", "of": {"name": "digits"}, "corruption": "defocus_blur", "severity": 5}
    for split in ("train", "test"):
        prepare.write_split(plugin_options("datasets", options, "test"), split, None, tmp_path / split, 1)
    clean, learned = Shards(digits["train"]), Shards(tmp_path / "train")
    assert torch.equal(clean.images(torch.arange(1437)), learned.images(torch.arange(1437)))
    assert learned.classes == Shards(tmp_path / "test").classes
    plugin = load_plugin("evals", name)
    checked = plugin_options("evals", {"name": name, "features": "feature", **({"epochs": 5} if name == "linear" else {})}, "test")
    scores = {}
    for kind, folder in (("clean", digits["test"]), ("corrupted", tmp_path / "test")):
        inputs = FeatureInputs(features(tmp_path / "train"), features(folder), learned.classes)
        scores[kind] = plugin.evaluate(instance(plugin.Config, checked), inputs, seed=0, device="cpu")["metrics"]["top1"]
    assert scores["clean"] > 90 and 10 < scores["corrupted"] < scores["clean"]
