"""VOC2012's masks and those of the Semantic Boundaries Dataset (Hariharan et al., ICCV 2011) together: train_aug, as segmentation is published."""

from dataclasses import dataclass
from pathlib import Path

from invp.datasets._photos import needed
from invp.datasets._source import Source
from invp.datasets._voc import VOCConfig, check_voc_root, files_of, has_list, list_of, load_voc, names_in, raw_voc, source_of_names
from invp.plumbing.options import option

SPLITS = ("train", "test", "val")
MULTI_LABEL = True
MASKS = True


@dataclass
class Config(VOCConfig):
    """The folders of VOC2012, which has the images, and of SBD. `test` is VOC2012's val; no image of it is in `train`."""

    folder: str = option("VOCdevkit/VOC2012", "of VOC2012, under the data root", filled=True)
    sbd: str = option("benchmark_RELEASE/dataset", "of SBD, under the data root", filled=True)
    train: str = option("train", "the list in ImageSets/Segmentation to which SBD's images are added", filled=True)
    test: str = option("val", "the list in ImageSets/Segmentation that plays this role", filled=True)
    LISTS = "Segmentation"
    MASKS = True


def check_root(config: Config, root: Path) -> None:
    check_voc_root(config, root)
    for part in ("cls", "train.txt", "val.txt"):
        needed(root / config.sbd / part, "SBD", f"{config.sbd}/{{cls,train.txt,val.txt}}")


def added(config: Config, root: Path) -> list[str]:
    """The names of SBD's images that VOC2012 has in neither of its lists."""
    own = {name for split in ("train", "test") for name in names_in(list_of(config, root, split))}
    both = [name for part in ("train", "val") for name in names_in(root / config.sbd / f"{part}.txt")]
    return sorted(set(both) - own)


def raw_files(config: Config, root: Path, split: str) -> list[Path]:
    """A list of VOC2012 with what it names; of `train` also all other lists, the images that SBD adds, and its masks of them."""
    found = raw_voc(config, root, split)
    if split != "train":
        return found
    names = added(config, root)
    lists = [list_of(config, root, "test"), *(root / config.sbd / f"{part}.txt" for part in ("train", "val"))]
    masks = [root / config.sbd / "cls" / f"{name}.mat" for name in names]
    return [*found, *lists, *files_of(root / config.folder, names, masks=False), *masks]


def has_split(config: Config, root: Path, split: str) -> bool:
    return has_list(config, root, split)


def load(config: Config, root: Path | None, split: str) -> Source:
    """VOC2012's val, or its train and after that what SBD adds; of images in both, VOC2012's masks count."""
    root = root or Path("data")
    if split != "train":
        return load_voc(config, root, split)
    names, more = names_in(list_of(config, root, split)), added(config, root)
    of_sbd = set(more)

    def masks(name: str) -> Path:
        return (
            root / config.sbd / "cls" / f"{name}.mat" if name in of_sbd else root / config.folder / f"SegmentationClass/{name}.png"
        )

    return source_of_names(
        config, root, split, names + more, f"official list {config.train}, and SBD's images that are not in {config.test}", masks
    )
