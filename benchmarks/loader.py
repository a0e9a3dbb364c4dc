"""Images per second of this project's loader beside torchvision's ImageFolder with a DataLoader and Hugging Face's `datasets`.

Run: `INVP_DATA=... python -m benchmarks.loader` (`--rounds 5 --workers 2 --json FILE`). INVP_DATA holds cifar10/test-*.parquet and photos/photos.tar.

All sides give normalised float batches of random crops with colour jitter, grey and flip, with as many workers, and take turns; the table holds
medians. `datasets` takes part if it is installed. The exit status is 1 where a floor is missed or a peer is ahead.
"""

import argparse
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torchvision.transforms as T
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from benchmarks._common import as_a_job, images_per_second, write_results
from invp.data.augment import Augment
from invp.data.batches import epoch_order, train_batches
from invp.data.shards import Shards
from invp.plumbing.config import plugin_options
from invp.plumbing.sections import Augmentation
from invp.steps import prepare

JITTER = [0.4, 0.4, 0.4, 0.4]
CPU = torch.device("cpu")
FLOORS = {
    "augmentation, 32 px": 10.0,
    "augmentation with blur, 32 px": 10.0,
    "fetching a batch, 32 px": 15.0,
    "whole loader, 224 px": 1.5,
    "whole loader, 224 px, shards of 256 px": 3.0,
}


def options(size: int, blur: float = 0.0) -> Augmentation:
    common = {"crop_scale": [0.2, 1.0], "flip": True, "jitter": JITTER, "jitter_probability": 1.0, "grayscale": 0.2}
    return Augmentation(size=size, blur_probability=blur, **common)


def transform(size: int, blur: float = 0.0) -> T.Compose:
    """The same list in torchvision's transforms of single images."""
    o = options(size)
    parts = [T.RandomResizedCrop(size, scale=(0.2, 1.0)), T.ColorJitter(*JITTER), T.RandomGrayscale(0.2), T.RandomHorizontalFlip()]
    if blur:
        parts.append(T.RandomApply([T.GaussianBlur(3, tuple(o.blur_sigma))], blur))
    return T.Compose([*parts, T.ToTensor(), T.Normalize(o.mean, o.std)])


def ours(shards: Shards, size: int, batch: int, workers: int) -> Callable[[], int]:
    def run() -> int:
        order = epoch_order(shards.num_samples, 0, 1)
        common = {"batch_size": batch, "start_step": 0, "rank": 0, "world_size": 1, "device": CPU, "seed": 0, "epoch": 1}
        batches = train_batches(shards, order=order, augmentations=[Augment(options(size))], workers=workers, **common)
        return sum(len(views[0]) for _, _, views in batches)

    return run


def torchvisions(folder: Path, size: int, batch: int, workers: int) -> Callable[[], int]:
    loader = DataLoader(ImageFolder(str(folder), transform(size)), batch, shuffle=True, num_workers=workers, drop_last=True,
                        persistent_workers=True)  # fmt: skip

    def run() -> int:
        return sum(len(images) for images, _ in loader)

    return run


def hugging_faces(folder: Path, size: int, batch: int, workers: int) -> Callable[[], int] | None:
    try:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        from datasets import load_dataset
    except ImportError:
        return None
    change = transform(size)
    data = load_dataset("imagefolder", data_dir=str(folder), split="train", cache_dir=str(folder.parent / "cache"))
    data.set_transform(lambda rows: {"image": [change(image.convert("RGB")) for image in rows["image"]]})
    loader = DataLoader(data, batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=True)

    def run() -> int:
        return sum(len(rows["image"]) for rows in loader)

    return run


def small_images(root: Path, scratch: Path, rounds: int, workers: int) -> dict[str, dict[str, float]]:
    """2,560 images of 32 pixels, as shards and as PNG files."""
    prepare.write_split(plugin_options("datasets", {"name": "cifar10"}, "benchmark"), "test", root, scratch / "cifar", workers)
    shards, count, batch = Shards(scratch / "cifar"), 2560, 128
    pixels = shards.images(torch.arange(count))
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    for i, picture in enumerate(pictures):
        path = scratch / "png" / str(int(shards.labels[i])) / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    paths = [path for path in sorted((scratch / "png").rglob("*.png"))]

    def batched(blur: float) -> Callable[[], int]:
        augment = Augment(options(32, blur))

        def run() -> int:
            for step, part in enumerate(pixels.split(512)):
                augment(part, (0, 1, step, 0), slice(0, len(part)), len(part))
            return count

        return run

    def single(blur: float) -> Callable[[], int]:
        change = transform(32, blur)

        def run() -> int:
            for part in range(0, 512, 128):
                torch.stack([change(picture) for picture in pictures[part : part + 128]])
            return 512

        return run

    def fetched() -> int:
        order = epoch_order(shards.num_samples, 0, 1)
        for index in order.split(512)[:16]:
            torch.from_numpy(shards._gathered(index.numpy()))
        return 16 * 512

    def decoded() -> int:
        for path in paths[:512]:
            torch.from_numpy(np.array(Image.open(path).convert("RGB")))
        return 512

    sides = {
        "this loader": ours(shards, 32, batch, workers),
        "ImageFolder + DataLoader": torchvisions(scratch / "png", 32, batch, workers),
    }
    if other := hugging_faces(scratch / "png", 32, batch, workers):
        sides["datasets + DataLoader"] = other
    return {
        "augmentation, 32 px": images_per_second({"batched": batched(0), "torchvision on PIL": single(0)}, rounds),
        "augmentation with blur, 32 px": images_per_second({"batched": batched(0.5), "torchvision on PIL": single(0.5)}, rounds),
        "fetching a batch, 32 px": images_per_second({"mapped shards": fetched, "decoding each PNG": decoded}, rounds),
        "whole loader, 32 px": images_per_second(sides, rounds),
    }


def photographs(root: Path, scratch: Path, rounds: int, workers: int) -> dict[str, dict[str, float]]:
    """A hundred photographs as JPEG files, six times each, 224-pixel crops."""
    with tarfile.open(root / "photos" / "photos.tar") as tar:
        tar.extractall(scratch / "tar", filter="data")
    folder = scratch / "photos" / "train" / "all"
    folder.mkdir(parents=True)
    for path in (scratch / "tar").rglob("*.JPEG"):
        for copy in range(6):  # an epoch of 600: beginnings and ends count for little, as in a long one
            os.link(path, folder / f"{copy}-{path.name}")
    batch, mine = 20, {}
    for short_side in (0, 256):
        choice = {"name": "image_folder", "folder": "photos", "on_bad_image": "convert", "short_side": short_side}
        shards = scratch / f"shards-{short_side}"
        prepare.write_split(plugin_options("datasets", choice, "benchmark"), "train", scratch, shards, workers)
        mine[short_side] = ours(Shards(shards), 224, batch, workers)
    others = {"ImageFolder + DataLoader": torchvisions(folder.parent, 224, batch, workers)}
    if other := hugging_faces(folder.parent, 224, batch, workers):
        others["datasets + DataLoader"] = other
    rates = images_per_second({"this loader": mine[0], "shards of 256 px": mine[256], **others}, rounds)
    smaller = rates.pop("shards of 256 px")
    return {
        "whole loader, 224 px": rates,
        "whole loader, 224 px, shards of 256 px": {"this loader": smaller, **{name: rates[name] for name in others}},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2, help="of each side (default: 2)")
    parser.add_argument("--json", type=Path, help="write the rates, the device, versions and the commit here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # for all sides: threads that wait for each other on a busy machine measure the machine
    root = Path(os.environ.get("INVP_DATA", "data"))
    with tempfile.TemporaryDirectory() as folder:
        results = small_images(root, Path(folder), arguments.rounds, arguments.workers)
        results |= photographs(root, Path(folder), arguments.rounds, arguments.workers)
    failed = False
    for name, rates in results.items():
        first, *others = rates.items()
        print(f"{name}: {first[0]} {first[1]:,.0f} images/s")
        for other, rate in others:
            missed = first[1] / rate < FLOORS.get(name, 1.0)
            failed |= missed
            print(f"    {first[1] / rate:5.1f} x {other} ({rate:,.0f}){'  floor missed' if missed else ''}")
    if arguments.json:
        write_results(arguments.json, {"images_per_second": results})
    return int(failed)


if __name__ == "__main__":
    as_a_job("benchmarks.loader")
    sys.exit(main())
