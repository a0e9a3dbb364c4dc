"""What `compare` chooses for a folder of images and a time: the network, the views of each method, and the files of the study."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from invp.tools._compare_images import Images, section_of
from invp.tools._compare_methods import UNTRAINED, adapted, parent_of, title_of, views_of

# Side of the views and encoder, from cheap to dear; the dearest that sees ENOUGH views in the time is taken. A rule of thumb, not tuned.
SMALL = {"name": "resnet_small", "stem": "imagenet", "width": 32, "blocks": 1}
LADDER: list[tuple[int, dict[str, Any]]] = [
    (32, SMALL),
    (32, {**SMALL, "width": 64}),
    (64, {**SMALL, "width": 64}),
    (64, {"name": "resnet18", "stem": "cifar"}),
    (128, {"name": "resnet18", "stem": "imagenet"}),
    (224, {"name": "resnet18", "stem": "imagenet"}),
    (224, {"name": "resnet50", "stem": "imagenet"}),
]
ENOUGH = 300_000  # views
TINY, SMALL_IMAGES = 16, 64  # pixels of a side up to which a stem's stride would leave nothing, and up to which images are small
BATCH = 128
NEIGHBOURS = 200  # that vote in kNN, at most
STAGES = 4  # points of a curve, at most
FOR_JOBS = 0.4  # of the time, at most, that goes into jobs other than trainings; else there are fewer stages


def ladder(side: int) -> list[tuple[int, dict[str, Any]]]:
    """The sizes and encoders that suit images of `side` pixels, from cheap to dear."""
    found: list[tuple[int, dict[str, Any]]] = []
    for most, encoder in LADDER:
        size = min(most, side)
        if encoder["name"] != "resnet_small" and (encoder["stem"] == "cifar") != (side <= SMALL_IMAGES):
            continue
        rung = size, {**encoder, "stem": "cifar"} if size <= TINY else encoder
        if rung not in found:
            found.append(rung)
    return found


def features_of(encoder: dict[str, Any]) -> int:
    """F of an encoder of the ladder."""
    return {"resnet_small": 4 * encoder.get("width", 0), "resnet18": 512, "resnet50": 2048}[encoder["name"]]


def batch_of(images: int) -> int:
    """128, or less where that would be more than an eighth of the images."""
    return min(BATCH, 2 ** int(math.log2(images / 8)))


@dataclass
class Choice:
    """A study that is to be written: `unit` is by how many rounds of equal views each method is trained, in `stages` stages."""

    name: str
    folder: Path
    images: Images
    sources: dict[str, dict[str, Any]]  # method -> the package's experiment
    seeds: int
    size: int
    encoder: dict[str, Any]
    precision: str
    unit: int = 1
    stages: int = 1

    @property
    def batch(self) -> int:
        return batch_of(self.images.number)

    @property
    def trained(self) -> list[str]:
        return [kind for kind in self.sources if kind != UNTRAINED]

    @property
    def runs(self) -> int:
        """Experiments times seeds, as the workflow counts what may run side by side."""
        return len(self.sources) * self.seeds

    def experiment_name(self, kind: str) -> str:
        return f"{self.name}-{kind}"

    def epochs(self, kind: str) -> int:
        """Epochs of a method: `unit` times as many as give each method equal views."""
        views = [max(1, round(views_of(self.sources[each]))) for each in self.trained]
        return 0 if kind == UNTRAINED else max(1, round(self.unit * math.lcm(*views) / views_of(self.sources[kind])))

    def ends(self, kind: str) -> list[int]:
        """The epochs at which a method's stages end."""
        epochs = self.epochs(kind)
        return [0] if kind == UNTRAINED else sorted({max(1, round(epochs * n / self.stages)) for n in range(1, self.stages + 1)})

    def views(self, kind: str) -> int:
        """The views that a method sees: of each epoch whole batches alone."""
        batches = self.images.number // self.batch * self.batch
        return round(self.epochs(kind) * batches * views_of(self.sources[kind])) if kind != UNTRAINED else 0

    def experiment(self, kind: str) -> dict[str, Any]:
        """The experiment of a method, as its file has it."""
        source, size, images = self.sources[kind], self.size, self.images
        setting = {"size": size, "batch_size": self.batch, "features": features_of(self.encoder), "precision": self.precision}
        setting |= {"channels_last": source["encoder"]["input"] == "rgb"}
        options = adapted(source, images.number, self.epochs(kind), setting)
        own = {key: source["encoder"][key] for key in ("input", "norm", "width_share")}
        evaluations: dict[str, Any] = dict.fromkeys(source["evaluations"])
        if images.classes:
            votes = max(1, min(NEIGHBOURS, images.number // (2 * images.classes)))
            evaluations |= {"knn": {"features": "feature", "k": [votes]}, "linear": {}}
        of = "features" if kind == UNTRAINED else source["graph"]["of"]
        found: dict[str, Any] = {
            "extends": parent_of(source["name"]),
            "title": title_of(source, self.folder),
            "description": f"Values of {source['name']}, for these images and this time.",
            "dataset": section_of(images, self.name, size),
            "encoder": {**self.encoder, **own},
            "augmentation": {"size": size, "mean": images.mean, "std": images.std},
            "objective": options["objective"],
            "training": options["training"],
            "stages": self.ends(kind),
            "evaluate_stages": "all",
            "graph": {"of": of, "k": min(10, images.number // 4)},
            "evaluations": evaluations,
            "figures": {},
        }
        return found | ({"views": options["views"]} if options["views"] else {})

    def study(self, description: str) -> dict[str, Any]:
        """The study, as its file has it."""
        costs = ["training.views", "training.seconds", "training.memory_mb"]
        labelled = ["knn.top1", "linear.top1", "graph.same_class_share", *costs]
        found = {
            "study": self.name,
            "title": f"Which method for {self.folder.name}?",
            "description": description,
            "experiments": [self.experiment_name(kind) for kind in self.sources],
            "seeds": list(range(self.seeds)),
            "columns": labelled if self.images.classes else ["graph.mutual_share", "graph.overlap_with_previous", *costs],
            "on_error": "report",
        }
        return found
