"""The options of each section of an experiment and of a study, with their defaults; a plug-in's are its `Config`."""

from dataclasses import dataclass, field

from omegaconf import MISSING

from invp.plumbing.errors import UserError


@dataclass
class Encoder:
    """`name`: resnet_small, resnet18, resnet50, ... or pixels; `width` and `blocks` (per stage) are resnet_small's."""

    name: str = MISSING
    stem: str = "imagenet"
    norm: str = "batch"
    width: int = 16
    blocks: int = 1
    zero_init_residual: bool = False


@dataclass
class Head:
    """`kind`: linear, mlp or none; `dimensions` is D."""

    kind: str = "linear"
    dimensions: int = 128


@dataclass
class Training:
    """SGD over `epochs`, the schedule's horizon; `drops` are the epochs after which the rate is multiplied by `drop_factor`."""

    epochs: int = MISSING
    batch_size: int = 128
    learning_rate: float = 0.03
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 1e-4
    schedule: str = "multistep"
    drops: list[int] = field(default_factory=list)
    drop_factor: float = 0.1
    warmup_epochs: int = 0
    precision: str = "fp32"
    channels_last: bool = False


@dataclass
class Augmentation:
    """`size` in pixels; `jitter` is brightness, contrast, saturation, hue; probabilities are per image."""

    size: int = 224
    crop_scale: list[float] = field(default_factory=lambda: [0.2, 1.0])
    crop_ratio: list[float] = field(default_factory=lambda: [3 / 4, 4 / 3])
    # True: crops begin and end between pixels, as torchvision's do. False, for images of a few pixels: anywhere.
    whole_pixels: bool = True
    flip: bool = False
    jitter: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0, 0.0])
    jitter_probability: float = 0.0
    grayscale: float = 0.0
    blur_sigma: list[float] = field(default_factory=lambda: [0.1, 2.0])
    blur_probability: float = 0.0
    # Of photographs in training: pillow, in the job's threads, or torchcodec, on the device, where JPEG's chroma differs a little on a GPU.
    decoder: str = "pillow"
    mean: list[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    std: list[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])

    def __post_init__(self) -> None:
        for name, length in (("crop_scale", 2), ("crop_ratio", 2), ("jitter", 4), ("blur_sigma", 2), ("mean", 3), ("std", 3)):
            if len(getattr(self, name)) != length:
                raise UserError(f"augmentation.{name} must hold {length} numbers, not {getattr(self, name)}")
        for name in ("jitter_probability", "grayscale", "blur_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise UserError(f"augmentation.{name} must be between 0 and 1, not {getattr(self, name)}")
        if self.decoder not in ("pillow", "torchcodec"):
            raise UserError(f"augmentation.decoder is {self.decoder!r}; valid: pillow, torchcodec")
        if not 0 < self.crop_scale[0] <= self.crop_scale[1] <= 1:
            raise UserError(f"augmentation.crop_scale must rise within (0, 1], unlike {self.crop_scale}")


@dataclass
class Graph:
    """`k` neighbours; `of` bank or features; `index` exact or ivf; positives are kept for at most `anchors` seeded images."""

    snapshot: bool = True
    k: int = 10
    of: str = "bank"
    index: str = "exact"
    probes: int = 32  # cells that an ivf search looks into
    anchors: int = 2000


@dataclass
class Study:
    """What `all` makes: experiments by name and seeds; `columns` are the metrics of the printed table."""

    study: str = MISSING
    title: str = ""
    description: str = ""
    experiments: list[str] = MISSING
    seeds: list[int] = field(default_factory=lambda: [0])
    columns: list[str] = field(default_factory=lambda: ["knn.top1", "linear.top1", "graph.same_class_share"])
    reference: str = ""  # the experiment that the comparison page holds against every other; the first if empty
    data_root: str = ""


SECTIONS = {"encoder": Encoder, "head": Head, "augmentation": Augmentation, "training": Training, "graph": Graph}


def network_section(experiment: dict) -> dict:
    """The part of an experiment that it takes to build the encoder and the head, and to feed them."""
    augmentation = {key: experiment["augmentation"][key] for key in ("size", "mean", "std")}
    return {"encoder": experiment["encoder"], "head": experiment["head"], "augmentation": augmentation}
