"""Batched augmentation against torchvision's per-image transforms, in value and in distribution."""

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as V
from PIL import Image
from scipy.stats import ks_2samp
from torchvision.transforms import v2

from invp.data import colour
from invp.data.adjust import ADJUSTMENTS, crop_and_resize, crop_boxes, to_grey
from invp.data.augment import Augment
from invp.plumbing.sections import Augmentation


def images(count=64, size=32, seed=0):
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


FULL = Augmentation(size=32, flip=True, jitter=[0.4, 0.4, 0.4, 0.1], jitter_probability=0.8, grayscale=0.2, blur_probability=0.5)


def augmented(options, batch, key=(0, 1, 2, 0)):
    return Augment(options)(batch, key, slice(0, len(batch)), len(batch))


def test_equal_keys_give_equal_batches_and_others_do_not():
    batch = images()
    assert torch.equal(augmented(FULL, batch), augmented(FULL, batch))
    for key in ((1, 1, 2, 0), (0, 2, 2, 0), (0, 1, 3, 0), (0, 1, 2, 1)):
        assert not torch.equal(augmented(FULL, batch), augmented(FULL, batch, key))


def test_a_part_of_the_batch_is_augmented_as_in_the_whole():
    batch = images()
    part = Augment(FULL)(batch[16:48], (0, 1, 2, 0), slice(16, 48), 64)
    torch.testing.assert_close(part, augmented(FULL, batch)[16:48])


@pytest.mark.parametrize(
    "options",
    [
        Augmentation(size=32),
        Augmentation(size=32, crop_scale=[1, 1], crop_ratio=[1, 1], jitter=[0.4, 0.4, 0.4, 0.1], jitter_probability=1),
        Augmentation(size=32, crop_scale=[1, 1], crop_ratio=[1, 1], blur_probability=1),
    ],
    ids=["crop", "colour", "blur"],
)
def test_samples_of_a_batch_are_augmented_independently(options):
    batch = images(1).expand(64, -1, -1, -1).contiguous()
    result = augmented(options, batch).flatten(1)
    assert len(torch.unique(result, dim=0)) >= 58  # small blurs and whole crops may coincide


@pytest.mark.parametrize("number, function", enumerate([V.adjust_brightness, V.adjust_contrast, V.adjust_saturation, V.adjust_hue]))
def test_colour_adjustments_equal_torchvisions(number, function):
    batch = images(16).float() / 255
    factors = torch.linspace(-0.4, 0.4, 16) if number == 3 else torch.linspace(0.6, 1.4, 16)
    expected = torch.stack([function(image, float(f)) for image, f in zip(batch, factors, strict=True)])
    ADJUSTMENTS[number](batch, factors)
    torch.testing.assert_close(batch, expected, atol=2e-3 if number == 3 else 1e-6, rtol=0)


def test_grey_equals_torchvisions():
    batch = images(8).float() / 255
    torch.testing.assert_close(to_grey(batch), V.rgb_to_grayscale(batch), atol=1e-4, rtol=0)


def test_a_crop_that_is_enlarged_equals_torchvisions():
    batch = images(6).float() / 255
    boxes = torch.tensor([[0, 0, 32, 32], [3, 5, 20, 17], [10, 0, 16, 16], [0, 12, 32, 20], [31, 31, 1, 1], [8, 8, 9, 24]])
    result = crop_and_resize(batch, boxes.float(), 32, torch.tensor([False, False, True, False, False, True]))
    for i, (top, left, h, w) in enumerate(boxes.tolist()):
        expected = V.resized_crop(batch[i], top, left, h, w, [32, 32], antialias=False)
        if i in (2, 5):
            expected = expected.flip(-1)
        torch.testing.assert_close(result[i], expected, atol=1e-4, rtol=0)


def test_a_whole_image_that_is_enlarged_bicubically_equals_torchvisions():
    batch = images(3).float() / 255
    result = crop_and_resize(batch, torch.tensor([[0.0, 0, 32, 32]] * 3), 48, torch.zeros(3, dtype=torch.bool), mode="bicubic")
    expected = V.resize(batch, [48, 48], interpolation=V.InterpolationMode.BICUBIC, antialias=False)
    torch.testing.assert_close(result, expected, atol=1e-4, rtol=0)


def test_bicubic_views_are_pixels():
    options = {"size": 48, "interpolation": "bicubic", "crop_scale": [0.5, 1.0], "mean": [0.0] * 3, "std": [1.0] * 3}
    found = augmented(Augmentation(**options), images(16))
    assert found.min() == 0 and found.max() == 1, "noise overshoots"
    assert not torch.allclose(found, augmented(Augmentation(**options | {"interpolation": "bilinear"}), images(16)), atol=0.1)


def test_solarised_views_equal_torchvisions_and_change_no_other_draw():
    batch, common = (
        images(200),
        {"size": 32, "flip": True, "jitter": [0.4, 0.4, 0.4, 0.1], "jitter_probability": 0.8, "mean": [0.0] * 3, "std": [1.0] * 3},
    )
    plain, found = augmented(Augmentation(**common), batch), augmented(Augmentation(**common, solarize=0.3), batch)
    changed = (found != plain).flatten(1).any(1)
    assert 0.2 < changed.float().mean() < 0.4
    torch.testing.assert_close(found[changed], V.solarize(plain[changed], 128 / 255))


@pytest.mark.parametrize("height, width", [(32, 32), (60, 200), (200, 60)])
def test_crop_boxes_are_distributed_as_torchvisions(height, width):
    scale, ratio, count = [0.2, 1.0], [3 / 4, 4 / 3], 3000
    ours = crop_boxes(count, height, width, scale, ratio, torch.Generator().manual_seed(0)).numpy()
    torch.manual_seed(1)
    transform, image = v2.RandomResizedCrop(8, scale=scale, ratio=ratio), torch.zeros(3, height, width)
    theirs = np.array(
        [[p["top"], p["left"], p["height"], p["width"]] for p in (transform.make_params([image]) for _ in range(count))]
    )
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 1e-3, column
    assert (ours[:, 0] + ours[:, 2] <= height).all() and (ours[:, 1] + ours[:, 3] <= width).all() and (ours[:, 2:] >= 1).all()


def test_probabilities_are_those_asked_for():
    batch = torch.rand(4000, 3, 4, 4, generator=torch.Generator().manual_seed(0)).mul(255).byte()
    plain = {"size": 4, "crop_scale": [1, 1], "crop_ratio": [1, 1], "mean": [0, 0, 0], "std": [1, 1, 1]}
    grey = augmented(Augmentation(**plain, grayscale=0.2), batch)
    share = ((grey[:, 0] - grey[:, 1]).abs().amax((1, 2)) < 1e-6).float().mean()
    assert share == pytest.approx(0.2, abs=0.025)
    flipped = augmented(Augmentation(**plain, flip=True), batch)
    share = ((flipped - batch.float().div(255).flip(-1)).abs().amax((1, 2, 3)) < 1e-4).float().mean()
    assert share == pytest.approx(0.5, abs=0.03)
    jittered = augmented(Augmentation(**plain, jitter=[0.4, 0, 0, 0], jitter_probability=0.8), batch)
    share = ((jittered - batch.float().div(255)).abs().amax((1, 2, 3)) > 1e-6).float().mean()
    assert share == pytest.approx(0.8, abs=0.025)


def test_jitter_is_distributed_as_torchvisions():
    """The mean colour of one image after many jitters, ours against torchvision's."""
    image = images(1, 8)[0]
    plain = {"size": 8, "crop_scale": [1, 1], "crop_ratio": [1, 1], "mean": [0, 0, 0], "std": [1, 1, 1]}
    options = Augmentation(**plain, jitter=[0.4, 0.4, 0.4, 0.1], jitter_probability=1)
    ours = augmented(options, image.expand(1500, -1, -1, -1).contiguous()).mean((2, 3))
    torch.manual_seed(0)
    transform = v2.ColorJitter(0.4, 0.4, 0.4, 0.1)
    theirs = torch.stack([transform(image.float() / 255) for _ in range(1500)]).mean((2, 3))
    for channel in range(3):
        assert ks_2samp(ours[:, channel].numpy(), theirs[:, channel].numpy()).pvalue > 1e-3


def test_one_channel_becomes_three():
    assert augmented(FULL, images()[:, :1]).shape == (64, 3, 32, 32)


def test_grey_before_the_jitter_is_jittered_grey():
    """Grey first, hue and saturation do nothing to it and brightness does; grey last, it has the luminance of the jittered colours."""
    images = torch.randint(0, 256, (64, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    options = {"size": 16, "crop_scale": [1.0, 1.0], "crop_ratio": [1.0, 1.0], "mean": [0.0] * 3, "std": [1.0] * 3}
    jitter = {"jitter": [0.0, 0.0, 0.0, 0.5], "jitter_probability": 1.0, "grayscale": 0.5}
    first, last = (
        Augment(Augmentation(**options, **jitter, grayscale_first=first))(images, (0, 1, 0, 0), slice(0, 64), 64)
        for first in (True, False)
    )
    plain = to_grey(images.float() / 255).expand(-1, 3, -1, -1)
    grey = (last[:, 0] == last[:, 1]).flatten(1).all(1)
    assert 16 < grey.sum() < 48 and torch.equal(first[~grey], last[~grey])
    torch.testing.assert_close(first[grey], plain[grey], atol=1e-6, rtol=0)
    assert (last[grey] - plain[grey]).abs().mean() > 0.01


# Photographs on a CPU: whole levels, image by image.
def smooth(count=8, size=64):
    """Images without noise, on which a level more or less is not a hue more or less."""
    small = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(0)).mul(255)
    return torch.nn.functional.interpolate(small, (size, size), mode="bicubic").clamp(0, 255).byte()


@pytest.mark.parametrize("number, function", enumerate([V.adjust_brightness, V.adjust_contrast, V.adjust_saturation, V.adjust_hue]))
def test_colour_adjustments_of_photographs_equal_torchvisions_of_pillow_images(number, function):
    for image in smooth().permute(0, 2, 3, 1).numpy():
        for factor in (-0.4, -0.05, 0.2) if number == 3 else (0.6, 0.95, 1.4):
            expected = np.array(function(Image.fromarray(image), factor)).astype(int)
            difference = np.abs(colour._ADJUSTED[number](image.copy(), factor).astype(int) - expected)
            # Both have whole levels of hue and saturation, which they round in their own ways.
            assert difference.mean() < (1.5 if number == 3 else 0.6) and np.quantile(difference, 0.99) <= (10 if number == 3 else 1)


@pytest.mark.parametrize("first", [False, True])
def test_photographs_on_a_cpu_are_augmented_as_on_a_device_but_for_whole_levels(first):
    options = Augmentation(
        size=64, crop_scale=[1.0, 1.0], crop_ratio=[1.0, 1.0], flip=True, jitter=[0.4, 0.4, 0.4, 0.1], jitter_probability=0.8,
        grayscale=0.2, grayscale_first=first, blur_probability=0.5, solarize=0.3 * first,
    )  # fmt: skip
    batch, augment = smooth(64), Augment(options)
    draws = augment.drawn((0, 1, 2, 0), slice(0, 64), 64, 64, 64)
    expected = augment.applied(batch, draws)
    found = colour.coloured(list(batch), augment, draws)
    assert found.is_contiguous() and found.dtype == torch.float32
    difference = (found - expected).abs() * torch.tensor(options.std)[:, None, None] * 255
    assert difference.mean() < 1.5 and difference.quantile(0.99) < 10
    part = colour.coloured(list(batch[16:24]), augment, draws[16:24], out=torch.zeros(9, 3, 64, 64)[1:])
    assert torch.equal(part, found[16:24])
    # Without colours they are only mirrored and normalised.
    plain = Augment(Augmentation(size=64, flip=True, jitter_probability=0, grayscale=0))
    draws = plain.drawn((0, 1, 2, 0), slice(0, 64), 64, 64, 64)
    mirrored = torch.where(torch.tensor(draws.flip)[:, None, None, None], batch.flip(-1), batch)
    mean, std = (torch.tensor(values)[:, None, None] for values in (options.mean, options.std))
    assert torch.equal(colour.coloured(list(batch), plain, draws), mirrored * (1 / (255 * std)) - mean / std)


def test_jitter_of_photographs_is_distributed_as_torchvisions_of_pillow_images():
    """The mean colour of one image after many jitters."""
    image = smooth(1, 16)[0]
    plain = {"size": 16, "crop_scale": [1, 1], "crop_ratio": [1, 1], "mean": [0, 0, 0], "std": [1, 1, 1]}
    augment = Augment(Augmentation(**plain, jitter=[0.4, 0.4, 0.4, 0.1], jitter_probability=1))
    draws = augment.drawn((0, 1, 2, 0), slice(0, 1500), 1500, 16, 16)
    ours = colour.coloured([image] * 1500, augment, draws).mean((2, 3))
    torch.manual_seed(0)
    transform, picture = v2.ColorJitter(0.4, 0.4, 0.4, 0.1), Image.fromarray(image.permute(1, 2, 0).numpy())
    theirs = np.stack([np.array(transform(picture)).mean((0, 1)) / 255 for _ in range(1500)])
    for channel in range(3):
        assert ks_2samp(ours[:, channel].numpy(), theirs[:, channel]).pvalue > 1e-3
