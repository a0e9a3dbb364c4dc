"""Fetching data sets into the data root, by torchvision: only when somebody asks for it by this command, never in a job."""

from collections.abc import Callable
from pathlib import Path

from invp.errors import UserError


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


def run(name: str, root: Path) -> int:
    """Downloads a set under `root` and checks that its reader finds it there; what lies there already is kept."""
    known = fetchers()
    if name not in known:
        raise UserError(
            f"{name} cannot be downloaded by this command; it knows {', '.join(known)}. docs/data.md says where the others must lie"
        )
    from invp.plugins import load_plugin

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
    return 0
