"""The options of each section of an experiment and of a study, with their defaults; a plug-in's are its `Config`."""

from dataclasses import dataclass

from invp.plumbing.encoder_options import Encoder
from invp.plumbing.errors import UserError
from invp.plumbing.options import option, refuse_unused
from invp.plumbing.plugins import constants, load_plugin

HEADS = ("linear", "mlp", "none")
HEADS_WITH = dict.fromkeys(("layers", "hidden", "norm", "last_norm", "activation"), ("mlp",))
SCHEDULES = ("multistep", "cosine", "constant")
# Which optimisers, or schedules, have an option: with another it would be ignored, so it is refused.
OPTIMIZERS_WITH = {"momentum": ("sgd", "lars"), "nesterov": ("sgd", "lars"), "betas": ("adamw",), "trust": ("lars",)}
SCHEDULES_WITH = {"final_rate": ("cosine",), "drops": ("multistep",), "drop_factor": ("multistep",)}
DECODERS = ("pillow", "torchcodec")


@dataclass
class Head:
    """The projection from features to the embedding that the objective compares."""

    kind: str = option(
        "linear",
        "mlp: one hidden layer of as many units as features, or what the options below say; none: the features themselves",
        choices=HEADS,
    )
    dimensions: int = option(128, "D of the embedding", least=1)
    layers: int = option(2, "of mlp: linear layers", least=2, later=True)
    hidden: int = option(0, "of mlp: units of each hidden layer; 0: as many as features", least=0, later=True)
    norm: str = option("none", "of mlp: normalisation of hidden layers", choices=("none", "batch"), later=True)
    last_norm: bool = option(False, "of mlp: batch normalisation of the embedding too, without weights of its own", later=True)
    activation: str = option("relu", "of mlp: between two layers", choices=("relu", "gelu"), later=True)

    def __post_init__(self) -> None:
        refuse_unused(self, "kind", HEADS_WITH)


@dataclass
class Training:
    """The optimiser, and a learning rate that changes by epoch or by step."""

    epochs: int = option(help="the schedule's horizon in epochs; stages may end earlier", least=0)
    batch_size: int = option(128, "images of all processes together", least=1)
    optimizer: str = option("sgd", "the optimiser", choices=("sgd", "adamw", "lars"))
    learning_rate: float = option(0.03, "the rate after the warm-up", above=0)
    momentum: float = option(0.9, "of sgd and lars", least=0, below=1)
    nesterov: bool = option(False, "Nesterov's momentum")
    betas: list[float] = option([0.9, 0.999], "of adamw: the decay of its two means", least=0, below=1, length=2)
    trust: float = option(
        0.001, "of lars: the trust coefficient, by which a step's share of the weights' norm is multiplied", above=0
    )
    weight_decay: float = option(1e-4, "of all weights", least=0)
    weight_decay_end: float | None = option(
        None, "the decay at the end, to which it goes as half a cosine; null: it stays", least=0
    )
    decay_norms: bool = option(
        True,
        "whether biases, the weights of normalisations, and a transformer's positions decay too; with lars the others alone are scaled",
    )
    clip: float = option(0.0, "the most that the norm of all gradients together may be; 0: any", least=0)
    schedule: str = option("multistep", "of the learning rate", choices=SCHEDULES)
    drops: list[int] = option([], "epochs after which multistep multiplies the rate by drop_factor", least=0, rising=True)
    drop_factor: float = option(0.1, "of multistep", above=0, most=1)
    final_rate: float = option(0.0, "of cosine: the rate at the end", least=0)
    warmup_epochs: int = option(0, "epochs of a linear warm-up", least=0)
    schedule_by: str = option("epoch", "how often rate and decay change", choices=("epoch", "step"))
    precision: str = option("fp32", "bf16: the encoder's forward pass in bfloat16", choices=("fp32", "bf16"))
    channels_last: bool = option(False, "the memory layout of images: often faster")

    def __post_init__(self) -> None:
        refuse_unused(self, "optimizer", OPTIMIZERS_WITH)
        refuse_unused(self, "schedule", SCHEDULES_WITH)
        if self.nesterov and not self.momentum:
            raise UserError("nesterov is True; valid with momentum: 0: false")
        if self.final_rate > self.learning_rate:
            raise UserError(f"final_rate is {self.final_rate}; valid: at most the learning_rate, {self.learning_rate}")


@dataclass
class Augmentation:
    """Random views of an image, and how every image is normalised; probabilities are for each image."""

    size: int = option(224, "pixels of a view's side", least=1)
    crop_scale: list[float] = option([0.2, 1.0], "a crop's share of the area, from and to", above=0, most=1, length=2, rising=True)
    crop_ratio: list[float] = option([3 / 4, 4 / 3], "a crop's width / height, from and to", above=0, length=2, rising=True)
    whole_pixels: bool = option(True, "crops begin and end between pixels, as torchvision's; false, for tiny images: anywhere")
    flip: bool = option(False, "mirror half of the views")
    jitter: list[float] = option([0.0, 0.0, 0.0, 0.0], "brightness, contrast, saturation, hue", least=0, length=4)
    jitter_probability: float = option(0.0, "of the colour jitter", least=0, most=1)
    grayscale: float = option(0.0, "probability of grey", least=0, most=1)
    grayscale_first: bool = option(False, "grey before the colour jitter, as InstDisc, MoCo v1 and InvP with a linear head have it")
    blur_sigma: list[float] = option([0.1, 2.0], "of the Gaussian blur in pixels, from and to", above=0, length=2, rising=True)
    blur_probability: float = option(0.0, "of the blur", least=0, most=1)
    solarize: float = option(0.0, "probability that levels from the middle up are turned round, after the blur", least=0, most=1)
    interpolation: str = option("bilinear", "how a crop is resized", choices=("bilinear", "bicubic"))
    decoder: str = option(
        "pillow", "of photographs in training; torchcodec: on the device, where chroma differs a little", choices=DECODERS
    )
    mean: list[float] = option([0.485, 0.456, 0.406], "of each channel, which is subtracted", least=0, most=1, length=3)
    std: list[float] = option([0.229, 0.224, 0.225], "of each channel, by which is divided", above=0, length=3)

    def __post_init__(self) -> None:
        if self.jitter[3] > 0.5:
            raise UserError(f"jitter is {self.jitter}; valid for the hue, the fourth: at most 0.5, half a turn")


@dataclass
class View(Augmentation):
    """One kind of view, of a list: any option of `augmentation` that differs, but for mean, std and decoder, and a count. Without the
    section all views are alike."""

    count: int = option(1, "views of this kind", least=1)


COMMON_TO_VIEWS = ("mean", "std", "decoder")  # what kinds of view may not differ in


@dataclass
class Graph:
    """The k-nearest-neighbour graph that each stage leaves."""

    snapshot: bool = option(True, "whether stages leave a graph")
    k: int = option(10, "neighbours of each node, fewer than there are images", least=1)
    of: str = option(
        "bank", "what is connected: the objective's memory bank, or features without augmentation", choices=("bank", "features")
    )
    index: str = option("exact", "the search; ivf: approximate, for millions of images", choices=("exact", "ivf"))
    probes: int = option(32, "cells that an ivf search looks into, at most", least=1)
    anchors: int = option(2000, "seeded images whose positives are kept, at most", least=1)


@dataclass
class Weights:
    """Given weights in place of a random start of the encoder."""

    file: str = option(help="a .pt, .pth or .safetensors file; a relative path lies under the data root", filled=True)
    prefix: str = option("", "what stands before the encoder's own names in the file; empty: the known prefixes are tried")
    sha256: str = option("", "of the file: given weights are part of the experiment")


@dataclass
class Study:
    """What `all` makes."""

    study: str = option(help="the study's name", filled=True)
    title: str = option("", "above its tables")
    description: str = option("", "in the report")
    experiments: list[str] = option(help="names of experiments", filled=True)
    seeds: list[int] = option([0], "each makes every experiment once", least=0, filled=True)
    columns: list[str] = option(["knn.top1", "linear.top1", "graph.same_class_share"], "source.metric of the printed table")
    reference: str = option("", "the experiment that the comparison holds against every other; empty: the first")
    on_error: str = option(
        "stop",
        "an evaluation or figure that its data or options do not allow: stop fails its job, report lists it with the reason",
        choices=("stop", "report"),
    )
    data_root: str = option("", "folder of raw data; empty: INVP_DATA or data")
    raw_data: str = option(
        "check",
        "what is done at the start about raw data that changed since it was prepared; trust: nothing",
        choices=("check", "trust"),
    )


SECTIONS = {"encoder": Encoder, "head": Head, "augmentation": Augmentation, "training": Training, "graph": Graph}


def num_views(objective: dict) -> int:
    """How many views of each image an objective takes in a step, by its checked options."""
    module = load_plugin("objectives", objective["name"])
    if hasattr(module, "num_views"):
        return module.num_views(module.Config(**{key: value for key, value in objective.items() if key != "name"}))
    return module.Objective.views


def check_views(experiment: dict) -> None:
    """UserError for kinds of view that are not as many as the objective takes, or of sizes that it does not take."""
    views, name = experiment["views"], experiment["objective"]["name"]
    if views and (given := sum(view["count"] for view in views)) != (wanted := num_views(experiment["objective"])):
        raise UserError(f"views has {given}, and the objective {name} takes {wanted}; valid: kinds whose counts sum up to that")
    sizes = sorted({view["size"] for view in views})
    if len(sizes) > 1 and not constants("objectives", name).get("MULTI_CROP", False):
        raise UserError(f"views are of {sizes} pixels a side, and the objective {name} takes views of one size")


def view_kinds(section: dict) -> list[dict]:
    """The augmentation of each view of an image in a step, where the section `views` names kinds; else none."""
    return [{k: v for k, v in view.items() if k != "count"} for view in section["views"] for _ in range(view["count"])]


def area_of_views(section: dict, number: int) -> float:
    """How many views of full size the views of an image in a step amount to, by their pixels; `number` are all of full size."""
    kinds = view_kinds(section)
    return sum(kind["size"] ** 2 for kind in kinds) / section["augmentation"]["size"] ** 2 if kinds else number


def training_section(experiment: dict) -> dict:
    """The options of a training on which its weights at a stage's end can depend: `epochs` is among them if the schedule looks at it, or
    an objective that has the module constant PROGRESS."""
    training = experiment["training"]
    told = constants("objectives", experiment["objective"]["name"]).get("PROGRESS", False)
    looks = told or training["schedule"] == "cosine" or training["weight_decay_end"] is not None
    return {key: value for key, value in training.items() if key != "epochs" or looks}


def network_section(experiment: dict) -> dict:
    """The part of an experiment that it takes to build the encoder and the head, and to feed them."""
    augmentation = {key: experiment["augmentation"][key] for key in ("size", "mean", "std")}
    return {"encoder": experiment["encoder"], "head": experiment["head"], "augmentation": augmentation}
