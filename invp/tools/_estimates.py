"""How long a job of a study would take and how much disk, for `plan`. N images, D and F dimensions, k neighbours."""

import json
import math
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from invp.plumbing.files import canonical_json, read_json
from invp.plumbing.plugins import load_plugin, uses_gpu
from invp.plumbing.records import records_under
from invp.plumbing.sections import area_of_views, num_views

# 3,000 images/s of ResNet-50's training at 224 px. One H100 did 84e12 with InvP and ResNet-18 at 32 px, and 92e12 with ResNet-50 alone.
OPERATIONS = 74e12  # of a network's passes, a second
ON_CPU = 0.5e12  # operations a second of matrix products by eight cores, for evaluations that use no GPU
DECODED = 6000.0  # JPEG images decoded and cropped a second, by the cores beside one GPU
SIMILARITIES = 24e12  # operations a second of an exact kNN search in 32 bits; measured on one H100
COPIED = 100e6  # bytes a second that `prepare` reads, checks and writes
START = 15.0  # seconds of a job's imports and start
REST = 30.0  # seconds of a figure, a summary, a report
LOCAL_START = 5.0  # of both on a machine without a cluster; measured on one core of an AMD EPYC: 4 to 7
PROBED = 1000  # classes of a linear probe
SAMPLED = 500  # files whose size is asked, to know the mean


@dataclass(frozen=True)
class Machine:
    """What is assumed of a machine, or was measured of it: operations, images, bytes a second; seconds."""

    operations: float = OPERATIONS
    on_cpu: float = ON_CPU
    decoded: float = DECODED
    similarities: float = SIMILARITIES
    copied: float = COPIED
    start: float = START
    rest: float = REST
    probed: int = PROBED
    words: str = "somewhat less than one H100 did with ResNets"


def without_gpu(threads: int) -> Machine:
    """What is assumed of a machine without a GPU, of which a job has so many threads: an eighth of ON_CPU for each."""
    own = ON_CPU / 8 * threads
    return Machine(
        operations=own,
        on_cpu=own,
        similarities=own,
        start=LOCAL_START,
        rest=0.0,
        words=f"no GPU, {threads} thread{'s' * (threads > 1)} a job, not measured",
    )


@dataclass
class Job:
    """A job of Snakemake's graph."""

    rule: str
    section: dict
    outputs: list[str] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    gpus: int = 1  # one a process
    threads: int = 1  # cores that it holds
    limit: float = math.inf  # hours that the job asks for
    pending: bool = False
    hours: float = 0.0
    gigabytes: float = 0.0
    source: str = "assumed"
    step: str = ""  # that the rule runs; without a word, the one of its name
    log: str = ""  # the file that it prints into

    def __post_init__(self) -> None:
        self.step = self.step or self.rule


@cache
def network(encoder: str, head: str, size: int) -> tuple[float, int, int, int]:
    """Operations of one image's forward pass, parameters, F and D of a network, counted while one image passes."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from invp.models.encoders import build_encoder
    from invp.models.heads import build_head

    model = build_encoder(json.loads(encoder), size)
    top = build_head(json.loads(head), model.num_features)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        embedding = top(model.eval()(torch.zeros(1, 3, size, size)))
    parameters = sum(p.numel() for p in [*model.parameters(), *top.parameters()])
    return counter.get_total_flops(), parameters, model.num_features, embedding.shape[1]


def _of_a_step(section: dict, number: int) -> float:
    """Operations that an image costs a training of N images in each epoch; 0 where they cannot be counted without numbers."""
    from invp.tools._operations import operations_of

    try:
        return operations_of(canonical_json({**section, "weights": None, "seed": 0, "stage": 0, "graph_stages": []}), number)
    except RuntimeError:
        return 0.0


class Estimator:
    """Times and sizes of jobs; `root` has the raw data, `results` what was measured, and `machine` what is assumed else."""

    def __init__(self, root: Path, results: Path, machine: Machine | None = None):
        self.root, self.results, self.machine = root, results, machine or Machine()

    @cached_property
    def records(self) -> list[dict]:
        found = [read_json(path) for path in records_under(self.results)] if self.results.is_dir() else []
        return [record for record in found if "not_made" not in record]

    @cached_property
    def measured(self) -> dict[str, dict]:
        """Records by rule and section without its seed."""
        return {self._key(record["step"], record["section"]): record for record in self.records}

    @cached_property
    def rates(self) -> dict[str, float]:
        """Images a second of a training, the last measured of each kind."""
        found = {}
        for record in self.records:
            if record["step"] == "pretrain" and "metrics" in record["outputs"]:
                path = Path(record["outputs"]["metrics"]["path"])
                lines = path.read_text().splitlines() if path.exists() else []
                if lines and (rate := json.loads(lines[-1]).get("images_per_second")):
                    found[self._kind(record["section"])] = rate
        return found

    @staticmethod
    def _key(rule: str, section: dict) -> str:
        return canonical_json([rule, {k: v for k, v in section.items() if k not in ("seed", "experiment", "name", "title")}])

    @staticmethod
    def _kind(section: dict) -> str:
        return canonical_json(
            [section["encoder"], section["augmentation"]["size"], section.get("views"), section["objective"]["name"]]
        )

    @cache  # noqa: B019
    def split(self, dataset_id: str, name: str, options: str) -> tuple[int, int, str]:
        """N, bytes of the shards and format of a split: of the prepared one, or of the raw data."""
        path = self.results / "datasets" / dataset_id / name / "manifest.json"
        if path.exists():
            manifest = read_json(path)
            size = sum((path.parent / shard["file"]).stat().st_size for shard in manifest["shards"])
            return manifest["num_samples"], size, manifest["format"]
        from invp.plumbing.config import instance

        config = json.loads(options)
        plugin = load_plugin("datasets", config["name"])
        source = plugin.load(instance(plugin.Config, {k: v for k, v in config.items() if k != "name"}), self.root, name)
        if source.format == "uint8":
            return source.num_samples, source.num_samples * (math.prod(source.shape) + 20), "uint8"
        step = max(1, source.num_samples // SAMPLED)
        sizes = [len(source.read(i).image) for i in range(0, source.num_samples, step)]
        return source.num_samples, int(source.num_samples * (sum(sizes) / max(1, len(sizes)) + 60)), source.format

    def estimate(self, job: Job, by_output: dict[str, Job]) -> None:
        """Fills in a job's hours (on one GPU), gigabytes and where they are from."""
        record = self.measured.get(self._key(job.step, job.section))
        if record:
            job.hours, job.source = record["seconds"] / 3600, "measured"
            job.gigabytes = sum(entry["bytes"] for entry in record["outputs"].values()) / 1e9
            if job.step == "prepare":
                job.gigabytes += self._split_of(job)[1] / 1e9
            return
        seconds, size, source = getattr(self, f"_{job.step}", self._rest)(job, by_output)
        job.hours, job.gigabytes, job.source = (self.machine.start + seconds) / 3600, size / 1e9, source

    def _rest(self, job: Job, by_output) -> tuple[float, float, str]:
        return self.machine.rest, 5e6, "assumed"

    def _split_of(self, job: Job) -> tuple[int, int, str]:
        dataset_id, name = Path(next(o for o in job.outputs if o.endswith("manifest.json"))).parts[-3:-1]
        return self.split(dataset_id, name, canonical_json(job.section["dataset"]))

    def _data_of(self, job: Job, by_output: dict[str, Job]) -> list[tuple[int, int, str]]:
        """The splits whose manifests a job reads, or a job that it depends on does."""
        makers = {id(by_output[path]): by_output[path] for path in job.inputs if path in by_output}
        splits = [self._split_of(maker) for maker in makers.values() if maker.rule == "prepare"]
        if splits:
            return splits
        return [part for maker in makers.values() if maker.rule == "features" for part in self._data_of(maker, by_output)]

    def _network(self, section: dict) -> tuple[float, int, int, int]:
        size = section["augmentation"]["size"]
        return network(canonical_json(section["encoder"]), canonical_json(section["head"]), size)

    def _prepare(self, job: Job, by_output) -> tuple[float, float, str]:
        size = self._split_of(job)[1]
        return size / self.machine.copied, size, "assumed"

    def _pretrain(self, job: Job, by_output) -> tuple[float, float, str]:
        number, _, form = self._data_of(job, by_output)[0]
        operations, parameters, _, dimensions = self._network(job.section)
        size = 2 * 4 * parameters + 4 * dimensions * number
        parent = next((by_output[p] for p in job.inputs if p.endswith("checkpoint.pt") and p in by_output), None)
        images = number * (job.section["stage"] - (parent.section["stage"] if parent else 0))
        if rate := self.rates.get(self._kind(job.section)):
            return images / rate, size, "rate"

        views = area_of_views(job.section, num_views(job.section["objective"]))
        seconds = images * (_of_a_step(job.section, number) or 3 * operations * views) / self.machine.operations
        return max(seconds, images * views / self.machine.decoded if form == "encoded" else 0), size, "assumed"

    def _features(self, job: Job, by_output) -> tuple[float, float, str]:
        number, _, form = self._data_of(job, by_output)[0]
        operations, _, features, dimensions = self._network(job.section)
        seconds = max(number * operations / self.machine.operations, number / self.machine.decoded if form == "encoded" else 0)
        return seconds, number * (4 * (features + dimensions) + 12), "assumed"

    def _graph(self, job: Job, by_output) -> tuple[float, float, str]:
        number = self._data_of(job, by_output)[0][0]
        maker = next(by_output[p] for p in job.inputs if p.endswith("checkpoint.pt") and p in by_output)
        dimensions = self._network(maker.section)[3]
        k = job.section["graph"].get("k", 10)
        return 2 * dimensions * number**2 / self.machine.similarities, number * (12 * k + 24), "assumed"

    def _evaluate(self, job: Job, by_output) -> tuple[float, float, str]:
        """Of heads on F features: 6 F C operations an image and epoch; of kNN: 2 F for each pair."""
        if "encoder" in job.section:
            return self._evaluate_network(job, by_output), 1e6, "assumed"
        makers = [by_output[p] for p in job.inputs if p in by_output and by_output[p].rule == "features"]
        numbers = [part[0] for part in self._data_of(job, by_output)]
        if not makers or not numbers:
            return self.machine.rest, 1e6, "assumed"
        features = self._network(makers[0].section)[2]
        options = job.section["evaluation"]
        heads = len(options.get("learning_rates", [0])) * len(options.get("weight_decays", [0]))
        pairs = 2 * features * max(numbers) * min(numbers)
        probes = 6 * features * self.machine.probed * max(numbers) * options.get("epochs", 0) * heads
        on_gpu = uses_gpu(load_plugin("steps", job.step), job.section)
        return (pairs + probes) / (self.machine.operations if on_gpu else self.machine.on_cpu), 1e6, "assumed"

    def _evaluate_network(self, job: Job, by_output) -> float:
        """Seconds of an evaluation that runs the encoder: its passes over images, three times as much where it is trained."""
        options, splits = job.section["evaluation"], self._data_of(job, by_output)
        gathers = any("/parts/" in path for path in job.inputs)
        number, _, form = max(splits, default=(0, 0, "uint8"))
        operations, seen, trained = self._network(job.section)[0], sum(part[0] for part in splits), 0.0
        if gathers and options["name"] != "transfer":
            return self.machine.rest
        if options.get("steps"):
            trained = options["steps"] * options["batch_size"] * self._trainings(job, gathers)
        elif "share" in options:
            trained = options["share"] * number * options["epochs"]
        elif options["name"] == "transfer":
            trained = options["epochs"] * number * self._trainings(job, gathers)
        elif options.get("crops") == "fresh":
            seen += options["epochs"] * number
        elif options["name"] == "ranks":
            seen = min(number, options["images"]) + min(number, options["viewed"]) * options["views"]
        if options["name"] == "detection":  # its images are larger
            operations *= options["test_size"] * options["longest"] / job.section["augmentation"]["size"] ** 2
        if options["name"] == "segmentation":  # as are these
            operations *= (options["crop"] / job.section["augmentation"]["size"]) ** 2
        computed = (seen + 3 * trained) * operations / self.machine.operations
        return max(computed, (seen + trained) / self.machine.decoded if form == "encoded" else 0.0)

    _evaluate_part = _evaluate

    @staticmethod
    def _trainings(job: Job, gathers: bool) -> int:
        """How many trainings a job of an evaluation has: of a grid one a pair, and then one on all images."""
        options = job.section["evaluation"]
        if job.step == "evaluate_part" or gathers or "learning_rates" not in options:
            return 1
        return len(options["learning_rates"]) * len(options["weight_decays"]) + 1
