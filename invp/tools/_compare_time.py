"""How long a study of `compare` takes on this machine: measured trainings, the jobs of Snakemake's own graph, and what fits into a time."""

import math
import time
from pathlib import Path
from typing import Any

from invp.tools import _compare_speed as speed
from invp.tools._compare_choice import Choice
from invp.tools._estimates import Estimator, Job, Machine
from invp.tools._schedule import cores, makespan
from invp.tools.plan import jobs_of, on_gpu

LADDER_SECONDS, METHOD_SECONDS = 1.5, 3.0  # for which steps of a network, and of an epoch of a method, are timed
JOBS_OF_A_STAGE = 6  # its training, features of two splits, graph and two evaluations; besides them a run has its explorer
FOR_TRAINING = 0.65  # of the time, as a first guess, before the jobs are known
SHARED = 8  # threads of a job at most, as the workflow shares a machine out


class Clock:
    """Measures, and says what fits into `limit` seconds; what is chosen meanwhile is in the `choice`."""

    def __init__(self, choice: Choice, limit: float):
        import torch

        self.choice, self.limit, self.cores, self.gpus = choice, limit, cores(), torch.cuda.device_count()
        self.threads = max(1, min(SHARED, self.cores // max(2, choice.runs)))
        self.side_by_side = max(1, self.gpus or min(self.cores // self.threads, len(choice.trained) * choice.seeds))
        self.reading = 0.0  # seconds an image
        self.start = (
            0.0  # seconds of a job before its own work: of all that of one with a network, since Snakemake has work with each too
        )
        self.start_cpu = 1.0  # cores that a starting job takes
        self.planning = 0.0  # seconds of Snakemake's start
        self.answers: dict[str, dict[str, Any]] = {}  # method -> how fast it was
        self.early: dict[str, float] = {}  # method -> the share of its training before its positives, clusters or prototypes count
        self.jobs: list[Job] = []
        self.planned: dict[str, list[int]] = {}  # experiment -> the ends of its stages in these jobs

    def ask(self, dataset: Path, sections: list[dict], seconds: float, **options: Any) -> dict[str, Any]:
        """A request to a measuring process."""
        request = {"dataset": str(dataset), "sections": sections, "epochs": [1], "seconds": seconds, "enough": 0.0}
        return {**request, "precisions": [self.choice.precision], "threads": self.threads, **options}

    def climb(self, dataset: Path, sections: list[dict], views: float) -> tuple[str, list[float]]:
        """The faster precision, and images a second of each network of a ladder up to the first that is too slow for so many views."""
        trainings = len(self.choice.trained) * self.choice.seeds
        enough = views * trainings / (FOR_TRAINING * self.limit * self.side_by_side)
        request = self.ask(dataset, sections, LADDER_SECONDS, enough=enough, precisions=["fp32", "bf16"])
        (answer,) = speed.measured([request], self.side_by_side, self.threads)
        self.start = answer["start"]
        fast = [rate for rate in answer["rates"] if rate >= enough]
        self.rate = fast[-1] if fast else answer["rates"][0]
        return answer["precision"], answer["rates"][: max(1, len(fast))]

    def affordable_stages(self, most: int, share: float) -> int:
        """The most stages with which jobs other than trainings take no more than a share of the time; 1 at least."""
        runs = len(self.choice.trained) * self.choice.seeds
        for stages in range(most, 1, -1):
            jobs = runs * (JOBS_OF_A_STAGE * stages + 1) + JOBS_OF_A_STAGE * self.choice.seeds + 4
            if jobs * self.start / self.side_by_side <= share * self.limit:
                return stages
        return 1

    def first_guess(self) -> int:
        """Rounds of equal views that may fit, by the speed of the first method's network alone."""
        views = FOR_TRAINING * self.limit * self.side_by_side * self.rate / (len(self.choice.trained) * self.choice.seeds)
        self.choice.unit = 1
        return max(self.choice.stages, round(views / self.choice.views(self.choice.trained[0])))

    def evened(self, answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers with each step's own time on the cores, as often as the cores were waited for in all of them together.

        What other work takes comes in bursts, longer than a step is timed for: it would be blamed on the method that it met. On a GPU the
        answers are as they were measured.
        """
        if self.gpus:
            return answers
        epochs = [epoch for answer in answers for epoch in answer["epochs"]]
        common = sum(epoch["cpu"] for epoch in epochs) / len(epochs)
        evened = [
            [{**epoch, "step": epoch["step"] * epoch["cpu"] / common, "cpu": common} for epoch in a["epochs"]] for a in answers
        ]
        return [{**answer, "epochs": own} for answer, own in zip(answers, evened, strict=True)]

    def time_methods(self, dataset: Path, sections: dict[str, dict[str, Any]]) -> None:
        """Times the first and the last epoch of each method."""
        requests = [
            self.ask(dataset, [section], METHOD_SECONDS, epochs=[1, self.choice.epochs(kind)]) for kind, section in sections.items()
        ]
        for (kind, section), answer in zip(
            sections.items(), speed.measured(requests, self.side_by_side, self.threads), strict=True
        ):
            self.answers[kind] = answer
            objective = section["objective"]
            waits = objective.get("ramp_epoch", objective.get("warmup_epochs", 0))
            self.early[kind] = min(1.0, waits / self.choice.epochs(kind))
        number = len(self.answers)
        self.start = sum(answer["start"] for answer in self.answers.values()) / number
        self.start_cpu = sum(answer["start_cpu"] for answer in self.answers.values()) / number

    def training_seconds(self, kind: str, first: int, last: int) -> float:
        """Seconds of a method's epochs from `first` to `last`, of as many as the choice has now."""
        steps = self.choice.images.number // self.choice.batch
        early, late = (each["begin"] + steps * each["step"] for each in self.answers[kind]["epochs"])
        switch = self.early[kind] * self.choice.epochs(kind)
        before = max(0.0, min(last, switch) - (first - 1))
        return before * early + (last - first + 1 - before) * late

    def plan(self, study: Path, profile: Path) -> None:
        """Reads the jobs of the study as it is written now."""
        started = time.perf_counter()
        self.jobs = jobs_of(study, None, profile)
        self.planning = (time.perf_counter() - started) / 2  # two dry runs
        names = {kind: self.choice.experiment_name(kind) for kind in self.choice.sources}
        self.planned = {name: self.choice.ends(kind) for kind, name in names.items()}
        self._seconds = self._other_jobs()

    def _other_jobs(self) -> dict[int, float]:
        """Seconds of each job but those of trainings, by `plan`'s rules with what was measured here in place of its assumptions."""
        import torch

        one = torch.rand(768, 768)
        one @ one
        started = time.perf_counter()
        for _ in range(3):
            one @ one
        products = 3 * 2 * 768**3 / (time.perf_counter() - started) / max(1, torch.get_num_threads()) * self.threads
        images, start = self.choice.images, self.start
        machine = Machine(on_cpu=products, similarities=products, start=start, rest=start, probed=max(1, images.classes))
        estimator = Estimator(images.root, Path("results"), machine)
        by_output = {path: job for job in self.jobs for path in job.outputs}
        found = {}
        for number, job in enumerate(self.jobs):
            if job.step == "pretrain":
                continue
            if job.step == "prepare":
                found[number] = start + self.reading * (images.number if job.section["split"] == "train" else images.held_out)
            elif job.step == "features":
                found[number] = self.start + images.number / self.rate / 3  # a forward pass of three
            else:
                estimator.estimate(job, by_output)
                found[number] = job.hours * 3600
        return found

    def seconds_of(self, number: int) -> float:
        """Seconds of a job, with as many rounds of views as the choice has now."""
        if self.jobs[number].step != "pretrain":
            return self._seconds[number]
        return self.start + self._trained(number)[1]

    def _trained(self, number: int) -> tuple[str, float]:
        """The method of a pretraining, and the seconds of its epochs."""
        job = self.jobs[number]
        name = Path(job.outputs[0]).parts[1]
        kind = name.removeprefix(f"{self.choice.name}-")
        stage = self.planned[name].index(job.section["stage"])
        ends = [0, *self.choice.ends(kind)]
        return kind, self.training_seconds(kind, ends[stage] + 1, ends[stage + 1]) if ends[-1] else 0.0

    def core_seconds(self) -> float:
        """What the study computes, in seconds of one core: less than its time allows where other work runs beside it."""
        found = self.planning * self.start_cpu
        for number, job in enumerate(self.jobs):
            kind, trained = self._trained(number) if job.step == "pretrain" else ("", 0.0)
            found += (self.seconds_of(number) - trained) * self.start_cpu
            found += trained * self.answers[kind]["epochs"][-1]["cpu"] if trained else 0.0
        return found

    def total(self, unit: int) -> float:
        """Seconds of the whole study, Snakemake's start among them, with so many rounds of views."""
        self.choice.unit = unit
        return self.planning + makespan(self.jobs, self.seconds_of, self.cores, self.gpus, on_gpu)

    def fitting_unit(self) -> int:
        """The most rounds of views with which the study takes no longer than the limit; as many as it has stages at least."""
        low = self.choice.stages
        if self.total(low) > self.limit:
            return low
        high = 2 * low
        while self.total(high) <= self.limit:
            low, high = high, 2 * high
        while high - low > max(1, low // 100):
            middle = (low + high) // 2
            low, high = (middle, high) if self.total(middle) <= self.limit else (low, middle)
        return max(self.choice.stages, low // self.choice.stages * self.choice.stages)  # so that stages end at equal views


def minutes(seconds: float) -> str:
    """Seconds as minutes for a reader: '0.4', '12'."""
    value = seconds / 60
    return f"{value:.1f}" if value < 9.95 else f"{math.ceil(value)}"
