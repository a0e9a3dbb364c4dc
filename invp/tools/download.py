"""Fetch a data set into the data root, by torchvision.

Only when somebody asks for it by this command, never in a job.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from invp.plumbing.config import data_root
from invp.plumbing.errors import UserError
from invp.plumbing.plugins import load_plugin


def fetchers() -> dict[str, Callable[[str], None]]:
    """For each set that torchvision can download, what fetches all that its reader here needs."""
    from torchvision import datasets as tv

    def splits(make: Callable, *names: str) -> Callable[[str], None]:
        return lambda root: [make(root, split=name, download=True) for name in names] and None

    def voc(root: str, year: str, *lists: str) -> None:
        for name in lists:
            tv.VOCDetection(root, year=year, image_set=name, download=True)

    return {
        "cifar10": lambda root: tv.CIFAR10(root, download=True) and None,
        "cifar100": lambda root: tv.CIFAR100(root, download=True) and None,
        "svhn": splits(tv.SVHN, "train", "test"),
        "stl10": splits(tv.STL10, "train"),
        "voc2007": lambda root: voc(root, "2007", "trainval", "test"),
        "voc2012": lambda root: voc(root, "2012", "trainval"),
        "caltech101": lambda root: tv.Caltech101(root, download=True) and None,
        "oxford_pets": splits(tv.OxfordIIITPet, "trainval"),
        "flowers102": splits(tv.Flowers102, "train"),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="cifar10, cifar100, svhn, stl10, voc2007, voc2012, caltech101, oxford_pets or flowers102")
    parser.add_argument("--root", type=Path, help="folder of the raw data sets (default: $INVP_DATA or data)")


def run(arguments: argparse.Namespace) -> None:
    """Downloads a set under the root and checks that its reader finds it there; what lies there already is kept."""
    name, root = arguments.name, arguments.root or data_root()
    known = fetchers()
    if name not in known:
        raise UserError(
            f"{name} cannot be downloaded by this command; it knows {', '.join(known)}. docs/data.md says where the others must lie"
        )
    root.mkdir(parents=True, exist_ok=True)
    try:
        known[name](str(root))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"{name} could not be downloaded: {error}. Put its files under {root} yourself: docs/data.md has the layout"
        ) from None
    plugin = load_plugin("datasets", name)
    if hasattr(plugin, "check_root"):
        plugin.check_root(plugin.Config(), root)
    print(f"{name} lies under {root}")
