"""PASCAL VOC 2007 and 2012 together: trained on both trainval lists, tested on VOC2007's test, as detection is published."""

from dataclasses import dataclass
from pathlib import Path

from invp.datasets._photos import PhotoConfig
from invp.datasets._source import Sample, Source
from invp.datasets._voc import VOCConfig, check_voc_root, has_list, load_voc, raw_voc
from invp.plumbing.options import option

SPLITS = ("train", "test")
MULTI_LABEL = True


@dataclass
class Config(PhotoConfig):
    """VOC2007 and VOC2012 together."""

    folder_2007: str = option("VOCdevkit/VOC2007", "under the data root", filled=True)
    folder_2012: str = option("VOCdevkit/VOC2012", "under the data root", filled=True)
    BALANCED = False


def parts(config: Config) -> list[VOCConfig]:
    common = {"on_bad_image": config.on_bad_image, "short_side": config.short_side}
    return [VOCConfig(folder=folder, **common) for folder in (config.folder_2007, config.folder_2012)]


def check_root(config: Config, root: Path) -> None:
    for part in parts(config):
        check_voc_root(part, root)


def years_of(config: Config, split: str) -> list[VOCConfig]:
    return parts(config) if split == "train" else parts(config)[:1]


def raw_files(config: Config, root: Path, split: str) -> list[Path]:
    return [path for part in years_of(config, split) for path in raw_voc(part, root, split)]


def has_split(config: Config, root: Path, split: str) -> bool:
    return has_list(parts(config)[0], root, split)


def load(config: Config, root: Path | None, split: str) -> Source:
    """The years after one another; an image's source begins with its year."""
    sources = [load_voc(part, root, split) for part in years_of(config, split)]

    def read(number: int) -> Sample:
        for year, source in zip(("2007", "2012"), sources, strict=False):
            if number < source.num_samples:
                sample = source.read(number)
                sample.source = f"{year}/{sample.source}"
                return sample
            number -= source.num_samples
        raise IndexError(number)

    first = sources[0]
    count, listing = sum(s.num_samples for s in sources), b"".join(s.listing for s in sources)
    rule = "official trainval lists of 2007 and 2012" if split == "train" else "official test list of 2007"
    return Source(first.classes, count, read, listing, rule, "encoded", None, multi_label=True, skip_bad=first.skip_bad)
