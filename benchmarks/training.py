"""The whole training loop: from photographs beside its parts and beside lightly's loop, and what InvP adds to a network's step.

Run: `INVP_DATA=... python -m benchmarks.training` (`--rounds 5 --threads 2 --only photographs --json FILE`). INVP_DATA holds
cifar10/test-*.parquet and photos/photos.tar; lightly 1.6 takes part if it is installed. Sides take turns in one process; the tables hold medians.
The exit status is 1 where a floor is missed.

photographs: SimCLR, ResNet-18, two 224-pixel views, twelve batches of 16; `loader` and `network` are the loop's own parts by themselves.
small: SimCLR, resnet_small of width 16, batches of 128, augmentation and all, on a folder of PNG files of 32 pixels, kept as pixels.
share: InvP's objective (N = 50,000, M = 4,096, B = 128) over a step of the same network with a loss of one line, in 32 bits and, where
the CPU computes in them, in 16.
transformer: a whole step of InvP on ViT-tiny, augmentation and all, over a step of timm's ViT-tiny with the same AdamW and a loss of one
line; 32 pixels, patches of 4, N = 10,000, M = 4,096, B = 64.
"""

import argparse
import os
import sys
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision.transforms as T
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder

from benchmarks._common import as_a_job, images_per_second, median_seconds, write_results
from invp.data.batches import epoch_order
from invp.data.shards import Shards
from invp.plumbing.config import plugin_options
from invp.plumbing.experiments import load
from invp.plumbing.folders import EXPERIMENTS
from invp.steps import prepare, pretrain
from invp.training.distributed import Group
from invp.training.loop import Stage, build_objective
from invp.training.optim import build_optimizer

ALONE = Group(0, 1, torch.device("cpu"))
FLOORS = {"photographs": 0.95, "small, fp32": 3.0, "small, bf16": 4.0}
# Elsewhere 16-bit arithmetic is made of 32-bit arithmetic, and slower.
CPUINFO = Path("/proc/cpuinfo")
HAS_BF16 = CPUINFO.exists() and not {"avx512_bf16", "amx_bf16"}.isdisjoint(CPUINFO.read_text().split())
PRECISIONS = ("fp32", "bf16") if HAS_BF16 else ("fp32",)
SHARES = {"resnet_small": 0.15, "resnet18": 0.04}
TRANSFORMER_SHARE = 0.05
PARTS = ("photographs", "small", "share", "transformer")


def section(objective: str, encoder: dict, size: int, batch: int, precision: str) -> dict:
    """What a training of CIFAR's experiments would be called with, with another network, image size and batch."""
    name = {"invp": "cifar10-invp", "invp-vit": "cifar10-invp-vit", "simclr": "cifar10-simclr"}[objective]
    loaded = load(EXPERIMENTS / f"{name}.yaml")
    loaded["encoder"] |= encoder
    loaded["augmentation"]["size"] = size
    loaded["training"] |= {"batch_size": batch, "precision": precision, "epochs": 100}
    loaded["stages"] = [100]
    return pretrain.section({"loaded": {name: loaded}}, experiment=name, seed=0, stage=100)


def lightlys(folder: Path, options: dict, workers: int) -> Callable[[], int] | None:
    """An epoch of SimCLR as lightly's examples write it, with this project's network and the same list of transforms."""
    try:
        from lightly.loss import NTXentLoss
        from lightly.transforms.multi_view_transform import MultiViewTransform
    except ImportError:
        return None
    o, batch = options["augmentation"], options["training"]["batch_size"]
    change = T.Compose(
        [
            T.RandomResizedCrop(o["size"], scale=tuple(o["crop_scale"])),
            T.RandomApply([T.ColorJitter(*o["jitter"])], o["jitter_probability"]),
            T.RandomGrayscale(o["grayscale"]),
            T.RandomHorizontalFlip(),
            T.ToTensor(),
            T.Normalize(o["mean"], o["std"]),
        ]
    )
    loader = DataLoader(ImageFolder(str(folder), MultiViewTransform([change, change])), batch, shuffle=True, num_workers=workers,
                        drop_last=True, persistent_workers=True)  # fmt: skip
    model = build_objective(options, batch)
    optimizer, criterion = build_optimizer(model, options["training"]), NTXentLoss(options["objective"]["temperature"])

    def run() -> int:
        count = 0
        for views, _ in loader:
            one, other = (model.head(model.encoder(view)) for view in views)
            loss = criterion(one, other)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            count += len(views[0])
        return count

    return run


class Loop:
    """An epoch of a stage, its batches alone, and its steps alone on one batch; each returns the number of images."""

    def __init__(self, options: dict, shards: Path, workers: int, group: Group = ALONE):
        self.stage = Stage(options, shards, None, group, "benchmark", workers)
        self.images = self.stage.steps * self.stage.batch_size
        self.batch = next(iter(self.stage._batches()))

    def whole(self) -> int:
        for batch in self.stage._batches():
            self.stage._train_step(*batch)
        return self._restarted()

    def loader(self) -> int:
        for _ in self.stage._batches():
            pass
        return self._restarted()

    def network(self) -> int:
        for _ in range(self.stage.steps):
            self.stage._train_step(*self.batch)
        return self._restarted()

    def _restarted(self) -> int:
        self.stage.step = 0
        self.stage.epoch += 1
        self.stage.unchecked.clear()
        return self.images


def photographs(root: Path, scratch: Path, rounds: int, workers: int) -> dict[str, float]:
    """64 photographs as JPEG files, three times, so that an epoch has twelve batches."""
    with tarfile.open(root / "photos" / "photos.tar") as tar:
        tar.extractall(scratch / "tar", filter="data")
    folder = scratch / "photos" / "train" / "all"
    folder.mkdir(parents=True)
    for path in sorted((scratch / "tar").rglob("*.JPEG"))[:64]:
        for copy in range(3):
            os.link(path, folder / f"{copy}-{path.name}")
    choice = {"name": "image_folder", "folder": "photos", "on_bad_image": "convert"}
    prepare.write_split(plugin_options("datasets", choice, "benchmark"), "train", scratch, scratch / "shards", workers)
    options = section("simclr", {"name": "resnet18", "stem": "imagenet"}, 224, 16, "fp32")
    loop = Loop(options, scratch / "shards", workers)
    sides = {"whole loop": loop.whole, "loader": loop.loader, "network": loop.network}
    if other := lightlys(folder.parent, options, workers):
        sides["lightly"] = other
    return images_per_second(sides, rounds)


def cifar(root: Path, scratch: Path, workers: int) -> Path:
    """The folder with shards of CIFAR-10's 10,000 test images."""
    folder = scratch / "all"
    if not folder.exists():
        prepare.write_split(plugin_options("datasets", {"name": "cifar10"}, "benchmark"), "test", root, folder, workers)
    return folder


def small(root: Path, scratch: Path, rounds: int, workers: int, precision: str) -> dict[str, float]:
    """2,560 images of CIFAR-10 as PNG files, and as shards of their pixels."""
    if not (scratch / "cifar").exists():
        shards = Shards(cifar(root, scratch, workers))
        for i, image in enumerate(shards.images(torch.arange(2560))):
            path = scratch / "png" / "train" / str(int(shards.labels[i])) / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            T.functional.to_pil_image(image).save(path)
        choice = plugin_options("datasets", {"name": "image_folder", "folder": "png", "decode": True}, "benchmark")
        prepare.write_split(choice, "train", scratch, scratch / "cifar", workers)
    options = section("simclr", {"name": "resnet_small", "stem": "auto", "width": 16}, 32, 128, precision)
    loop = Loop(options, scratch / "cifar", workers)
    sides = {"whole loop": loop.whole}
    if other := lightlys(scratch / "png" / "train", options, workers):
        sides["lightly"] = other
    return images_per_second(sides, rounds)


def share(encoder: dict, rounds: int, precision: str) -> dict[str, float]:
    """Seconds of a step with InvP's objective, and of one with the mean square of the head's output as its loss."""
    options = section("invp", encoder, 32, 128, precision)
    objective = build_objective(options, 50_000).to(memory_format=torch.channels_last)
    optimizer = build_optimizer(objective, options["training"])
    objective.bank.copy_(torch.nn.functional.normalize(objective.bank, dim=1))
    objective.table.copy_(torch.randint(0, 50_000, objective.table.shape, generator=torch.Generator().manual_seed(0)))
    images = torch.randn(128, 3, 32, 32, generator=torch.Generator().manual_seed(0)).contiguous(memory_format=torch.channels_last)
    index, epoch = epoch_order(50_000, 0, 1)[:128], 31  # after the ramp

    def stepped(loss: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def with_invp() -> None:
        output = objective([images], index, epoch)
        stepped(output["loss"])
        objective.end_step(index, output["memory"])

    def bare() -> None:
        stepped(objective.head(objective.encoder(images)).float().square().mean())

    return median_seconds({"InvP": with_invp, "bare": bare}, rounds)


def transformer(root: Path, scratch: Path, rounds: int, workers: int) -> dict[str, float]:
    """Seconds of a step of InvP's training of ViT-tiny, and of timm's own ViT-tiny with as many images."""
    import timm

    options = section("invp-vit", {}, 32, 64, PRECISIONS[-1])
    loop = Loop(options, cifar(root, scratch, workers), workers)
    loop.stage.epoch = options["objective"]["ramp_epoch"] + 1
    table = loop.stage.objective.table
    table.copy_(torch.randint(0, len(table), table.shape, generator=torch.Generator().manual_seed(0)))
    vit = timm.create_model("vit_tiny_patch16_224", img_size=32, patch_size=4, num_classes=128)
    optimizer = torch.optim.AdamW(vit.parameters(), fused=True)
    images = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))

    def bare() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=PRECISIONS[-1] == "bf16"):
            output = vit(images)
        output.float().square().mean().backward()
        optimizer.step()

    return median_seconds({"InvP": lambda: loop.stage._train_step(*loop.batch), "bare": bare}, rounds)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2, help="of arithmetic and of decoding, on each side (default: 2)")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    root, rounds, threads = Path(os.environ.get("INVP_DATA", "data")), arguments.rounds, arguments.threads
    rates: dict[str, dict[str, float]] = {}
    seconds: dict[str, dict[str, float]] = {}
    missed = False
    with tempfile.TemporaryDirectory() as scratch:
        if "photographs" in arguments.only:
            found = rates["photographs"] = _printed("photographs", photographs(root, Path(scratch), rounds, threads))
            slower = min(found["loader"], found["network"])
            missed |= _below("whole loop / slower of its parts", found["whole loop"] / slower, FLOORS["photographs"])
        for precision in PRECISIONS if "small" in arguments.only else ():
            name = f"small, {precision}"
            found = rates[name] = _printed(name, small(root, Path(scratch), rounds, threads, precision))
            if "lightly" in found:
                missed |= _below("whole loop / lightly", found["whole loop"] / found["lightly"], FLOORS[name])
        if "transformer" in arguments.only:
            found = seconds["transformer"] = transformer(root, Path(scratch), rounds, threads)
            missed |= _above("InvP's step over ViT-tiny's of timm", found, TRANSFORMER_SHARE)
    for network, limit in SHARES.items() if "share" in arguments.only else ():
        encoder = {"name": network, "stem": "auto", "width": 32} if network == "resnet_small" else {"name": network}
        for precision in PRECISIONS:
            name = f"{network}, {precision}"
            seconds[name] = share(encoder, rounds, precision)
            missed |= _above(f"InvP over {name}", seconds[name], limit)
    if arguments.json:
        threads_used = {"threads": threads, "rounds": rounds}
        write_results(arguments.json, {"images_per_second": rates, "seconds_of_a_step": seconds, "bf16": HAS_BF16, **threads_used})
    return int(missed)


def _printed(name: str, rates: dict[str, float]) -> dict[str, float]:
    """The rates, after they were printed."""
    print(f"{name}: " + ", ".join(f"{side} {rate:,.1f}" for side, rate in rates.items()) + " images/s", flush=True)
    return rates


def _below(what: str, ratio: float, floor: float) -> bool:
    print(f"    {what}: {ratio:.2f} (floor {floor:g}){'  missed' if ratio < floor else ''}", flush=True)
    return ratio < floor


def _above(what: str, seconds: dict[str, float], limit: float) -> bool:
    """Whether InvP adds more to a bare step than it may."""
    added = seconds["InvP"] / seconds["bare"] - 1
    print(f"{what}: {100 * added:.1f} % of {1000 * seconds['bare']:.0f} ms (at most {100 * limit:.0f} %)", flush=True)
    return added > limit


if __name__ == "__main__":
    as_a_job("benchmarks.training")
    sys.exit(main())
