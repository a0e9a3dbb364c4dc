"""Prepared shards and batches: pixels, labels, order, resuming, and clear errors."""

import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import ks_2samp
from torchvision import transforms
from torchvision.transforms.v2 import functional as V

from invp.data import batches as batches_module
from invp.data import decode as decode_module
from invp.data.augment import Augment
from invp.data.batches import epoch_order, eval_batches, overlapped, train_batches
from invp.data.decode import central_crop, crop_box, crop_draws, crops_on_device, pixels, random_crops
from invp.data.shards import Shards
from invp.plumbing.config import plugin_options
from invp.plumbing.errors import UserError
from invp.plumbing.sections import Augmentation
from invp.steps import prepare

CPU = torch.device("cpu")
ALONE = {"start_step": 0, "rank": 0, "world_size": 1, "device": CPU, "seed": 0, "epoch": 1}  # the first epoch of one process


def prepared(name, root, out, split="train", workers=1, **options):
    prepare.write_split(plugin_options("datasets", {"name": name, **options}, "test"), split, root, out, workers)
    return Shards(out)


@pytest.fixture
def photographs(tmp_path):
    """A folder of classes with photographs of different sizes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("test", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "data" / "pets" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                array = rng.integers(0, 256, (40 + 3 * i, 60, 3), dtype=np.uint8)
                Image.fromarray(array).save(folder / f"{i}.png")
    return tmp_path / "data"


def test_digits_read_back_equal(digits):
    from sklearn.datasets import load_digits

    values, labels = load_digits(return_X_y=True)
    train, test = Shards(digits["train"]), Shards(digits["test"])
    assert (train.num_samples, test.num_samples) == (1437, 360)
    every = torch.cat([train.images(torch.arange(1437)), test.images(torch.arange(360))]).flatten(1).numpy()
    expected = np.round(values * 255 / 16).astype(np.uint8)
    assert sorted(map(bytes, every)) == sorted(map(bytes, expected))
    assert np.bincount(np.concatenate([train.labels, test.labels])).tolist() == np.bincount(labels).tolist()


def test_photographs_keep_their_bytes(photographs, tmp_path):
    shards = prepared("image_folder", photographs, tmp_path / "out", folder="pets", rows_per_shard=5)
    assert shards.classes == ["cat", "dog"] and shards.labels.tolist() == [0] * 6 + [1] * 6
    assert len(shards.manifest["shards"]) == 3
    for i in range(12):
        path = photographs / "pets" / "train" / ("cat" if i < 6 else "dog") / f"{i % 6}.png"
        assert shards.encoded(i) == path.read_bytes()


def test_twice_or_with_more_workers_the_shards_are_equal_to_the_byte(photographs, tmp_path):
    for name, workers in (("a", 1), ("b", 1), ("c", 3)):
        prepared("image_folder", photographs, tmp_path / name, folder="pets", rows_per_shard=4, workers=workers)
    contents = [[p.read_bytes() for p in sorted((tmp_path / name).glob("shards/*.arrow"))] for name in "abc"]
    assert contents[0] == contents[1] == contents[2] and len(contents[0]) == 3


def test_killed_in_the_middle_only_missing_shards_are_written_again(data_root, tmp_path):
    out = tmp_path / "cifar"
    code = (
        "from pathlib import Path; from invp.steps import prepare; from invp.plumbing.config import plugin_options;"
        f"prepare.write_split(plugin_options('datasets', {{'name': 'cifar10', 'rows_per_shard': 2000}}, 't'), 'test', Path({str(data_root)!r}), Path({str(out)!r}), 1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    while len(list((out / "scratch").glob("*.json"))) < 2 and process.poll() is None:
        time.sleep(0.002)
    process.kill()
    process.wait()
    assert not (out / "manifest.json").exists()
    before = {path.stem: path.with_suffix(".arrow").stat().st_mtime_ns for path in (out / "scratch").glob("*.json")}
    assert 2 <= len(before) <= 5
    prepared("cifar10", data_root, out, split="test", rows_per_shard=2000)
    assert {name: (out / "shards" / f"{name}.arrow").stat().st_mtime_ns for name in before} == before
    assert sorted(p.name for p in out.iterdir()) == ["manifest.json", "shards"]
    assert sorted(p.name for p in (out / "shards").iterdir()) == [f"shard-0000{i}.arrow" for i in range(5)]


def test_cifar10_equals_its_source(data_root, tmp_path):
    import pyarrow.parquet as pq

    shards = prepared("cifar10", data_root, tmp_path / "out", split="test")
    table = pq.read_table(data_root / "cifar10" / "test-00000-of-00001.parquet")
    assert list(shards.manifest["counts"].values()) == [1000] * 10
    assert shards.labels.tolist() == table["label"].to_pylist()
    for i in range(0, 10000, 997):
        pixels = np.array(Image.open(io.BytesIO(table["image"][i].as_py()["bytes"])).convert("RGB")).transpose(2, 0, 1)
        assert np.array_equal(shards.images(torch.tensor([i]))[0].numpy(), pixels)


def test_a_balanced_part_is_balanced_and_seeded(digits, tmp_path):
    one = prepared("digits", None, tmp_path / "a", per_class=20)
    same = prepared("digits", None, tmp_path / "b", per_class=20)
    assert list(one.manifest["counts"].values()) == [20] * 10
    assert one.manifest["shards"] == same.manifest["shards"]
    with pytest.raises(UserError, match="has only"):
        prepared("digits", None, tmp_path / "c", per_class=2000)


def test_the_order_is_a_permutation_by_seed_and_epoch():
    orders = [epoch_order(100, seed, epoch) for seed in (0, 1) for epoch in (1, 2)]
    assert all(sorted(order.tolist()) == list(range(100)) for order in orders)
    assert len({tuple(order.tolist()) for order in orders}) == 4
    assert torch.equal(orders[0], epoch_order(100, 0, 1))


def test_torchcodec_gives_the_crops_that_pillow_gives(tmp_path):
    """On a CPU both decode alike; they differ in how they resize. PNG and a damaged JPEG go through Pillow."""
    pytest.importorskip("torchcodec")
    folder, rng = tmp_path / "data" / "pets" / "train" / "cat", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(6):
        smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((120, 90 + i), Image.Resampling.BICUBIC)
        smooth.save(folder / f"{i}.{'png' if i == 3 else 'jpg'}", **({} if i == 3 else {"quality": 95}))
    shards = prepared("image_folder", tmp_path / "data", tmp_path / "out", folder="pets")
    index = torch.arange(6)
    augment = Augment(Augmentation(size=32, decoder="torchcodec"))
    ours = crops_on_device(shards, index, [augment], (0, 1), CPU)[0].float()
    draws = crop_draws(index, (0, 1, 0))
    others = torch.stack([random_crops(shards, i, [augment], [draws[i]])[0] for i in range(6)]).float()
    assert ours.shape == (6, 3, 32, 32) and (ours - others).abs().mean() < 1
    assert (ours - others[[1, 2, 3, 4, 5, 0]]).abs().mean() > 10, "each image has its own crop"
    common = {"order": index, "batch_size": 3, "augmentations": [augment] * 2, **ALONE}
    batches = list(train_batches(shards, **common))
    assert [step for step, _, _ in batches] == [0, 1] and not torch.equal(*batches[0][2])
    again = list(train_batches(shards, **{**common, "start_step": 1}))
    assert torch.equal(again[0][2][0], batches[1][2][0])


def test_a_missing_decoder_is_named(photographs, tmp_path, monkeypatch):
    shards = prepared("image_folder", photographs, tmp_path / "out", folder="pets")
    monkeypatch.setitem(sys.modules, "torchcodec.decoders", None)
    with pytest.raises(UserError, match="pip install torchcodec"):
        crops_on_device(shards, torch.arange(2), [Augment(Augmentation(size=16))], (0, 1), CPU)


@pytest.mark.parametrize("kind", ["pixels", "photographs"])
def test_batches_are_the_same_for_any_workers_processes_and_start(kind, digits, photographs, tmp_path):
    if kind == "pixels":
        shards, batch = Shards(digits["train"]), 64
    else:
        shards, batch = prepared("image_folder", photographs, tmp_path / "out", folder="pets"), 4
    options = {"size": 16, "flip": True, "jitter": [0.4, 0.4, 0.4, 0.1], "jitter_probability": 0.8}
    kinds = [
        Augment(Augmentation(**options)),
        Augment(Augmentation(**options | {"size": 8, "solarize": 0.5, "interpolation": "bicubic"})),
    ]
    common = {"order": epoch_order(shards.num_samples, 0, 1), "batch_size": batch, "device": CPU, "augmentations": kinds}
    common |= {"seed": 0, "epoch": 1}
    whole = list(train_batches(shards, start_step=0, rank=0, world_size=1, **common))
    assert [step for step, _, _ in whole] == list(range(shards.num_samples // batch))
    assert [view.shape[2:] for view in whole[0][2]] == [(16, 16), (8, 8)]
    late = list(train_batches(shards, start_step=2, rank=0, world_size=1, workers=3, **common))
    parts = [list(train_batches(shards, start_step=0, rank=rank, world_size=2, **common)) for rank in (0, 1)]
    for (step, index, views), (_, late_index, late_views) in zip(whole[2:], late, strict=True):
        assert torch.equal(index, late_index) and all(map(torch.equal, views, late_views)), step
    for (_, index, views), first, second in zip(whole, *parts, strict=True):
        assert torch.equal(index, torch.cat([first[1], second[1]]))
        for view in range(2):
            torch.testing.assert_close(views[view], torch.cat([first[2][view], second[2][view]]))


def test_evaluation_batches_are_in_order_and_without_augmentation(photographs, tmp_path):
    shards = prepared("image_folder", photographs, tmp_path / "out", folder="pets")
    batches = list(eval_batches(shards, size=32, batch_size=5, device=CPU, mean=[0.5] * 3, std=[0.5] * 3))
    assert torch.cat([index for index, _ in batches]).tolist() == list(range(12))
    assert torch.cat([images for _, images in batches]).shape == (12, 3, 32, 32)


PEAK = """
import resource, sys
from pathlib import Path
from invp.plumbing.config import plugin_options
from invp.steps import prepare
root, count = Path(sys.argv[1]), int(sys.argv[2])
options = plugin_options("datasets", {"name": "image_folder", "folder": "pets", "per_class": count}, "test")
prepare.write_split(options, "train", root, root / f"out-{count}", 2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def test_no_thread_holds_a_whole_shard_of_photographs(tmp_path, root):
    """A shard of ImageNet is a gigabyte, and there are as many threads as cores."""
    folder, rng = tmp_path / "pets" / "train" / "cat", np.random.default_rng(0)
    folder.mkdir(parents=True)
    Image.fromarray(rng.integers(0, 256, (600, 600, 3), dtype=np.uint8)).save(folder / "000.jpg", quality=95)
    for i in range(1, 300):
        os.link(folder / "000.jpg", folder / f"{i:03d}.jpg")
    peaks = []
    for count in (1, 300):
        command = [sys.executable, "-c", PEAK, str(tmp_path), str(count)]
        peaks.append(float(subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout))
    megabytes = 300 * (folder / "000.jpg").stat().st_size / 2**20
    assert megabytes > 100 and peaks[1] - peaks[0] < 0.8 * megabytes, peaks
    assert Shards(tmp_path / "out-300").encoded(299) == (folder / "299.jpg").read_bytes()


@pytest.mark.parametrize("fault", ["short", "missing", "manifest"])
def test_a_damaged_split_is_a_clear_error(fault, digits, tmp_path):
    folder = tmp_path / "train"
    shutil.copytree(digits["train"], folder)
    shard = folder / "shards" / "shard-00000.arrow"
    if fault == "short":
        shard.write_bytes(shard.read_bytes()[:-100])
    elif fault == "missing":
        shard.unlink()
    else:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["num_samples"] += 1
        (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UserError, match=str(folder)):
        Shards(folder)


@pytest.mark.parametrize(
    "fault, words", [("truncated", "0.png is no usable image"), ("empty", "holds no image"), ("missing", "does not exist")]
)
def test_a_bad_folder_is_a_clear_error_and_leaves_no_manifest(fault, words, photographs, tmp_path):
    folder = photographs / "pets" / "train" / "cat"
    if fault == "truncated":
        (folder / "0.png").write_bytes((folder / "0.png").read_bytes()[:40])
    elif fault == "empty":
        for path in folder.iterdir():
            path.unlink()
    else:
        shutil.rmtree(photographs / "pets" / "train")
    with pytest.raises(UserError, match=words):
        prepared("image_folder", photographs, tmp_path / "out", folder="pets")
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "svhn", "imagenet", "parquet"])
def test_missing_data_names_the_path_and_what_is_expected(name, tmp_path):
    with pytest.raises(UserError, match=f"(?s){tmp_path}.*INVP_DATA"):
        prepared(name, tmp_path, tmp_path / "out")


def test_the_central_crop_is_torchvisions_on_sixty_sizes():
    """Resize(256) and CenterCrop(224): the long side truncated, half an offset rounded to the even number."""
    rng = np.random.default_rng(0)
    theirs = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    for width, height in [*rng.integers(150, 521, (48, 2)).tolist(), *((500, side) for side in range(201, 400, 17))]:
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        expected = torch.from_numpy(np.array(theirs(image))).permute(2, 0, 1)
        assert torch.equal(central_crop(image, 224, 0.875), expected), (width, height)


def test_a_crop_sees_no_pixel_beyond_it(tmp_path):
    """Equal to torchvision's resized_crop on the same box, to the pixel of its tensors and to one level of Pillow's."""
    folder, rng = tmp_path / "data" / "pets" / "train" / "cat", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(8):
        Image.fromarray(rng.integers(0, 256, (60 + i, 62, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    shards = prepared("image_folder", tmp_path / "data", tmp_path / "out", folder="pets")
    augment = Augment(Augmentation(size=32))
    draws = [crop_draws(torch.arange(8), (0, 1, view)) for view in range(2)]
    for number in range(8):
        image = shards.decoded(number)
        ours = random_crops(shards, number, [augment] * len(draws), [own[number] for own in draws])
        assert not torch.equal(*ours)
        for own, crop in zip(draws, ours, strict=True):
            box = crop_box(image.height, image.width, augment.options.crop_scale, augment.options.crop_ratio, own[number])
            tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
            assert torch.equal(crop, V.resized_crop(tensor, *box, [32, 32], antialias=True))
            pillows = torch.from_numpy(np.array(transforms.functional.resized_crop(image, *box, [32, 32]))).permute(2, 0, 1)
            assert (crop.int() - pillows.int()).abs().max() <= 1


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 40), (40, 500), (64, 64)])
def test_the_crops_of_photographs_are_distributed_as_torchvisions(height, width):
    count, scale, ratio = 4000, [0.2, 1.0], [3 / 4, 4 / 3]
    draws = crop_draws(torch.arange(count), (0, 1, 0))
    ours = np.array([crop_box(height, width, scale, ratio, own) for own in draws])
    torch.manual_seed(0)
    image = torch.zeros(3, height, width)
    theirs = np.array([transforms.RandomResizedCrop.get_params(image, scale, ratio) for _ in range(count)])
    assert (ours >= 0).all() and (ours[:, 0] + ours[:, 2] <= height).all() and (ours[:, 1] + ours[:, 3] <= width).all()
    for one, other in zip(ours.T, theirs.T, strict=True):
        assert ks_2samp(one, other).pvalue > 1e-3
    assert np.abs(np.corrcoef(draws.T) - np.eye(22)).max() < 0.07, "the numbers of a crop do not depend on each other"
    other_view = crop_draws(torch.arange(count), (0, 1, 1))
    assert (
        abs(np.corrcoef(draws[:, 0], other_view[:, 0])[0, 1]) < 0.07 and abs(np.corrcoef(draws[:-1, 0], draws[1:, 0])[0, 1]) < 0.07
    )


def test_jpeg_is_decoded_to_pillows_pixels_and_halved_while_it_is_decoded():
    rng = np.random.default_rng(0)
    for mode, quality, progressive in (("RGB", 95, False), ("RGB", 60, True), ("L", 80, False)):
        shape = (13, 11) if mode == "L" else (13, 11, 3)
        image = Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).resize((166, 202), Image.Resampling.BICUBIC)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality, progressive=progressive)
        expected = np.array(Image.open(file).convert("RGB"))
        assert np.array_equal(pixels(file.getvalue()), expected)
        halved = pixels(file.getvalue(), 2)
        means = expected.reshape(101, 2, 83, 2, 3).mean((1, 3))
        assert halved.shape == (101, 83, 3) and np.abs(halved - means).mean() < 1.5
    assert pixels(b"\xff\xd8 and nothing") is None and pixels(b"PNG") is None


def test_every_reader_of_photographs_decodes_them_once_for_all_views_in_as_many_threads_as_it_has(
    photographs, tmp_path, monkeypatch
):
    shards = prepared("image_folder", photographs, tmp_path / "out", folder="pets")
    threads, encoded = set(), []
    original = Shards.encoded

    def watched(self, number):
        threads.add(threading.get_ident())
        encoded.append(number)
        time.sleep(0.01)
        return original(self, number)

    monkeypatch.setattr(Shards, "encoded", watched)
    monkeypatch.setattr(batches_module, "CHUNK", 1)
    common = {"order": torch.arange(12), "batch_size": 4, **ALONE}
    list(train_batches(shards, augmentations=[Augment(Augmentation(size=16))] * 3, workers=3, **common))
    assert sorted(encoded) == list(range(12)) and len(threads) == 3
    threads.clear()
    list(eval_batches(shards, size=16, batch_size=5, device=CPU, mean=[0.5] * 3, std=[0.5] * 3, workers=3))
    assert len(threads) == 3


@pytest.mark.parametrize("decoder", ["pillow", "torchcodec"])
def test_a_photograph_is_decoded_once_for_views_of_all_kinds(decoder, tmp_path, monkeypatch):
    """DINO's at 224 pixels, in small: large and small crops of each photograph."""
    folder, rng, decoded = tmp_path / "data" / "pets" / "train" / "cat", np.random.default_rng(0), []
    folder.mkdir(parents=True)
    for i in range(6):
        small = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        small.resize((90 + i, 80), Image.Resampling.BICUBIC).save(folder / f"{i}.jpg", quality=95)
    shards = prepared("image_folder", tmp_path / "data", tmp_path / "out", folder="pets")
    kinds = [Augmentation(size=24, crop_scale=[0.4, 1.0], decoder=decoder)] * 2
    kinds += [Augmentation(size=8, crop_scale=[0.05, 0.4], decoder=decoder, solarize=0.2)] * 4

    def decode_jpeg(contents, device):  # in the place of torchcodec's
        decoded.extend(contents)
        return [torch.from_numpy(pixels(content)).permute(2, 0, 1) for content in contents]

    def counted(content, *reduction):
        decoded.append(content)
        return pixels(content, *reduction)

    monkeypatch.setitem(sys.modules, "torchcodec.decoders", SimpleNamespace(decode_jpeg=decode_jpeg))
    monkeypatch.setattr(decode_module, "pixels", counted)
    batches = list(
        train_batches(shards, order=torch.arange(6), batch_size=3, augmentations=[Augment(kind) for kind in kinds], **ALONE)
    )
    assert sorted(decoded) == sorted(shards.encoded(number) for number in range(6))
    views = batches[1][2]
    assert [view.shape[-1] for view in views] == [24, 24, 8, 8, 8, 8]
    assert len({tuple(view.mean((1, 2, 3)).tolist()) for view in views}) == 6, "each has its own crops"


def test_a_reader_that_stops_waits_for_nobody():
    begun = []

    def piece(number):
        begun.append(number)
        time.sleep(0.05)
        return number

    reader = overlapped(range(1000), lambda batch: [partial(piece, batch)] * 4, 2)
    assert next(reader) == (0, [0, 0, 0, 0])
    reader.close()
    assert len(begun) <= 4 * 3
