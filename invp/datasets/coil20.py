"""COIL-20 (Nene, Nayar, Murase, 1996): 20 objects, 72 poses each, five degrees apart, grey, on black."""

import io
import re
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from invp.datasets._photos import needed
from invp.datasets._source import BaseConfig, Sample, Source
from invp.plumbing.errors import UserError
from invp.plumbing.options import option

SPLITS = ("train", "test")
NAME = re.compile(r"obj(\d+)__(\d+)\.png$")


@dataclass
class Config(BaseConfig):
    """COIL-20: turning objects."""

    folder: str = option("coil20", "under the data root; holds coil20.tar or obj{n}__{pose}.png in any sub-folders", filled=True)
    size: int = option(32, "pixels of a side", least=8, most=64)
    test_share: float = option(0.25, "of each object's poses", above=0, below=1)
    BALANCED = False


def check_root(config: Config, root: Path) -> None:
    needed(root / config.folder, "COIL-20", f"{config.folder}/coil20.tar, or obj{{n}}__{{pose}}.png")


def contents(folder: Path) -> dict[tuple[int, int], bytes]:
    """The files by object (from 1) and pose (from 0)."""
    found = {}
    archive = folder / "coil20.tar"
    if archive.exists():
        with tarfile.open(archive) as tar:
            for member in tar:
                if (match := NAME.search(member.name)) and (file := tar.extractfile(member)):
                    found[int(match[1]), int(match[2])] = file.read()
    else:
        for path in sorted(folder.rglob("obj*.png")):
            if match := NAME.search(path.name):
                found[int(match[1]), int(match[2])] = path.read_bytes()
    if not found:
        raise UserError(f"{folder} holds no obj{{n}}__{{pose}}.png, nor a coil20.tar with them")
    return found


def load(config: Config, root: Path | None, split: str) -> Source:
    """The split is ours: of each object a seeded share of the poses. Targets: the sine and the cosine of the pose."""
    folder = needed((root or Path("data")) / config.folder, "COIL-20", f"{config.folder}/coil20.tar")
    files = contents(folder)
    objects = sorted({number for number, _ in files})
    generator = np.random.default_rng(config.split_seed)
    chosen = []
    for number in objects:
        poses = sorted(pose for n, pose in files if n == number)
        order = generator.permutation(poses)
        held = max(1, round(config.test_share * len(poses)))
        chosen += [(number, int(pose)) for pose in sorted(order[held:] if split == "train" else order[:held])]

    def read(index: int) -> Sample:
        number, pose = chosen[index]
        image = Image.open(io.BytesIO(files[number, pose])).convert("L")
        pixels = np.asarray(image.resize((config.size, config.size), Image.Resampling.BOX))[None].copy()
        angle = np.deg2rad(5 * pose)
        return Sample(
            pixels, objects.index(number), f"obj{number}__{pose}.png", targets=[float(np.sin(angle)), float(np.cos(angle))]
        )

    listing = "\n".join(f"{key} {len(files[key])}" for key in chosen).encode()
    rule = f"ours: {config.test_share:g} of the poses of each object are for test, seed {config.split_seed}"
    shape = [1, config.size, config.size]
    return Source(
        [f"obj{n}" for n in objects], len(chosen), read, listing, rule, "uint8", shape, targets=("pose_sine", "pose_cosine")
    )
