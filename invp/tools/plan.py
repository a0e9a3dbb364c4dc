"""Say what a study would cost before anything is run: jobs by rule, their time, and disk.

The jobs are those of Snakemake's own graph. A job's time is, in this order: that of a record with the same section but for the seed
(measured); its images at the rate of an experiment with the same network, image size and objective (rate); or its operations
at the assumed speed below (assumed). N images, D and F dimensions, k neighbours.
"""

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from invp.pages.tables import aligned
from invp.plumbing.devices import devices_of
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import read_yaml
from invp.plumbing.plugins import load_plugin, plugin_names, uses_gpu
from invp.plumbing.studies import add_study, study_file
from invp.tools._estimates import Estimator, Job, Machine, without_gpu
from invp.tools._schedule import cores, makespan


def jobs_of(study: Path, root: str | None, profile: Path) -> list[Job]:
    """The jobs that `all` of a study consists of, from Snakemake's dry runs; UserError with its message if they fail."""
    read_yaml(study)  # Snakemake's own words name neither file nor line
    command = [sys.executable, "-m", "snakemake", "--profile", str(profile), "-n", "-p", "all", "--configfile", str(study)]
    command += ["--config", f"data_root={root}"] if root else []
    texts = []
    for extra in (["--forceall"], []):
        done = subprocess.run([*command, *extra], capture_output=True, text=True)
        if done.returncode:
            lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
            raise UserError("snakemake says:\n" + "\n".join(lines[-5:]))
        texts.append(done.stdout + done.stderr)
    everything, pending = (parsed(text) for text in texts)
    if not everything:
        raise UserError(f"the dry run of snakemake lists no jobs: {profile} may name a 'logger' that hides them; take it out")
    made = {path for job in pending for path in job.outputs}
    for job in everything:
        job.pending = not made.isdisjoint(job.outputs)
    return everything


def parsed(text: str) -> list[Job]:
    """The jobs that a dry run with shell commands printed."""
    jobs = []
    for line in text.splitlines():
        key, _, rest = line.strip().partition(": ")
        if line.strip().startswith(("rule ", "localrule ")):  # indented in a group
            jobs.append(Job(line.split()[1].rstrip(":"), {}))
        elif key in ("input", "output") and jobs:
            setattr(jobs[-1], f"{key}s", [path.strip() for path in rest.split(",")])
        elif key == "log" and jobs:
            jobs[-1].log = rest.split(",")[0].split(" (")[0]
        elif key == "threads" and jobs and rest.isdigit():
            jobs[-1].threads = int(rest)
        elif key == "resources" and jobs:
            asked = dict(pair.strip().partition("=")[::2] for pair in rest.split(","))
            jobs[-1].gpus = int(asked.get("processes", 1)) * int(asked.get("nodes", 1))
            jobs[-1].limit = int(asked["runtime"]) / 60 if asked.get("runtime", "").isdigit() else math.inf
        elif "--section" in line and jobs:
            arguments = shlex.split(line)
            jobs[-1].step = arguments[arguments.index("invp") + 1]
            jobs[-1].section = json.loads(arguments[arguments.index("--section") + 1])
    return [job for job in jobs if job.section]


def on_gpu(job: Job) -> bool:
    """Whether a job uses a GPU where there is one."""
    return uses_gpu(load_plugin("steps", job.step), job.section)


def duration(hours: float) -> str:
    """'45 s', '1 min 49 s', '2 h 5 min' or '3.2 days'."""
    seconds = round(3600 * hours)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min" if hours < 48 else f"{hours / 24:,.1f} days"


def size(gigabytes: float) -> str:
    """'< 1 MB', '43 MB' or '1.2 GB'."""
    if gigabytes < 0.0005:
        return "< 1 MB"
    return f"{1000 * gigabytes:.0f} MB" if gigabytes < 1 else f"{gigabytes:,.1f} GB" if gigabytes < 100 else f"{gigabytes:,.0f} GB"


def submits(profile: Path) -> bool:
    """Whether the profile hands jobs to a cluster."""
    return any("executor" in read_yaml(path) for path in profile.glob("config*.yaml"))


def over_limit(jobs: list[Job]) -> Iterable[str]:
    """A line for each rule with pending jobs that would take longer than it asks for."""
    pending = [job for job in jobs if job.pending and job.hours / job.gpus > job.limit]
    for rule in dict.fromkeys(job.rule for job in pending):
        own = [job for job in pending if job.rule == rule]
        longest = max(own, key=lambda job: job.hours / job.gpus)
        yield (
            f"{len(own)} of {rule} would take longer than the {longest.limit:.4g} hours that the rule asks for, the longest "
            f"{longest.hours / longest.gpus:.4g} ({longest.outputs[0]}). A training goes on where it saved at each of the profile's `retries`; what "
            "trains nothing would begin anew: raise the rule's runtime in the profile"
        )


def critical_path(jobs: list[Job], by_output: dict[str, Job]) -> float:
    """Hours of the longest chain of pending jobs, if every job may start as soon as what it needs is there."""
    done: dict[int, float] = {}

    def end(job: Job) -> float:
        if id(job) not in done:
            before = max((end(by_output[p]) for p in job.inputs if p in by_output), default=0.0)
            done[id(job)] = before + (job.hours / job.gpus if job.pending else 0.0)
        return done[id(job)]

    return max((end(job) for job in jobs), default=0.0)


def _rows(jobs: list[Job], gpus: bool) -> Iterable[list[str]]:
    """A row a rule; where there are no GPUs nothing is said of them."""
    steps = plugin_names("steps")
    for _, rule in sorted({(steps.index(job.step), job.rule) for job in jobs}):
        own = [job for job in jobs if job.rule == rule]
        pending = [job for job in own if job.pending]
        hours = sum(job.hours for job in pending)
        longest = max((job.hours / job.gpus for job in pending), default=0.0)
        sources = {s: sum(job.source == s for job in own) for s in ("measured", "rate", "assumed")}
        origin = ", ".join(f"{count} {name}" for name, count in sources.items() if count)
        on = [f"{hours:.4g}" if any(map(on_gpu, own)) else "-"] if gpus else []
        yield [
            rule,
            f"{len(pending)} of {len(own)}",
            *on,
            duration(hours),
            duration(longest),
            size(sum(job.gigabytes for job in own)),
            origin,
        ]


class Plan(NamedTuple):
    """A study's jobs with their estimates, and what was assumed of the machine, or of the cluster's, that runs them."""

    jobs: list[Job]
    machine: Machine
    cluster: bool
    gpus: int  # of this machine
    cores: int

    def sentence(self) -> str:
        """'43 jobs, 7 MB on disk, about 1 min 49 s on this machine (2 cores, no GPU).'; of a cluster GPU-hours and the critical path."""
        pending = sum(job.pending for job in self.jobs)
        start = f"{pending} job{'s' * (pending != 1)}, {size(sum(job.gigabytes for job in self.jobs))} on disk, "
        if self.cluster:
            gpu_hours = sum(job.hours for job in self.jobs if job.pending and on_gpu(job))
            path = critical_path(self.jobs, {path: job for job in self.jobs for path in job.outputs})
            most = max((job.gpus for job in self.jobs), default=1)
            of = f"{most} GPU{'s' * (most > 1)} for a pretraining"
            return f"{start}{gpu_hours:,.4g} GPU-hours, {duration(path)} on the critical path with {of}."
        seconds = makespan(
            self.jobs, lambda number: 3600 * self.jobs[number].hours / self.jobs[number].gpus, self.cores, self.gpus, on_gpu
        )
        on = f"{self.cores} core{'s' * (self.cores > 1)}, {self.gpus or 'no'} GPU{'s' * (self.gpus > 1)}"
        return f"{start}about {duration(seconds / 3600)} on this machine ({on})."

    def table(self) -> str:
        """A row a rule, in aligned columns."""
        gpus = self.cluster or self.gpus > 0
        header = ["rule", "jobs to run", *(["GPU-hours"] if gpus else []), "time in all", "longest job", "disk", "times from"]
        return aligned(header, list(_rows(self.jobs, gpus)))

    def origin(self) -> str:
        """What the times are from."""
        return (
            "measured: the seconds of the same job, with another seed or in an earlier run, on the device of that time. rate: images a "
            "second of\nthe same network and objective. assumed: from counted operations at "
            f"{self.machine.operations / 1e12:.3g} TFLOP/s ({self.machine.words}),\n{self.machine.decoded:,.0f} decoded images/s, "
            f"{self.machine.copied / 1e6:.0f} MB/s of copying and {self.machine.start:.0f} s a start; several GPUs are assumed to share a "
            "pretraining without loss."
        )


def planned(study: Path, root: str | None, profile: Path, own_cores: int | None = None) -> Plan:
    """The plan of a study; the profile says the GPUs of a pretraining. `root` is the folder of raw data, `own_cores` how many cores are to
    be used, without it all."""
    jobs = jobs_of(study, root, profile)
    by_output = {path: job for job in jobs for path in job.outputs}
    cluster, here = submits(profile), devices_of(os.environ)
    machine = Machine() if cluster or here else without_gpu(max((job.threads for job in jobs), default=1))
    estimator = Estimator(Path(root or os.environ.get("INVP_DATA") or "data"), Path("results"), machine)
    for job in jobs:
        estimator.estimate(job, by_output)
    return Plan(jobs, machine, cluster, len(here), own_cores or cores())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)
    parser.add_argument("--data-root", help="where the raw data lies (default: $INVP_DATA or data)")
    parser.add_argument("--profile", type=Path, default=Path("profiles/local"), help="whose GPUs count (default: profiles/local)")


def run(arguments: argparse.Namespace) -> None:
    """Prints the table, its totals, and what it assumes."""
    plan = planned(study_file(arguments.study), arguments.data_root, arguments.profile)
    print(plan.table() + plan.sentence())
    for line in over_limit(plan.jobs):
        print(f"warning: {line}")
    print(plan.origin())
