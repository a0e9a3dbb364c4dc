"""The saved trainings of an evaluation, by the means of pre-training: a job that was stopped goes on where it was."""

import re
import signal
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path

import torch

from invp.evals._inputs import Saves
from invp.plumbing.errors import Stopped
from invp.plumbing.files import canonical_json, sha256_of
from invp.plumbing.jobs import Job
from invp.plumbing.launch import leave_after
from invp.training.checkpoint import save_checkpoint
from invp.training.distributed import Group
from invp.training.resume import state_to_resume
from invp.training.stop import StopRequest

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
ALONE = Group(0, 1, torch.device("cpu"))  # an evaluation is one process


class InScratch(Saves):
    """Keeps each training of a job in a file of the job's scratch folder, until the job has succeeded.

    The folder is no declared output, since Snakemake would delete it before each try. A file of another section, code or inputs, or a
    damaged one, is ignored with a message.
    """

    def __init__(self, job: Job):
        self.job, self.folder = job, job.arguments.scratch
        self.every = 60 * job.arguments.save_minutes

    @cached_property
    def fingerprint(self) -> str:
        """What the state of a training depends on."""
        inputs = {name: [sha256_of(path) for path in paths] for name, paths in self.job.inputs.items()}
        return canonical_json([self.job.section, self.job.code, inputs])

    def begin(self, name: str) -> dict | None:
        self.handlers = {number: signal.getsignal(number) for number in SIGNALS}
        self.stop = StopRequest(self.job.arguments.max_minutes or leave_after())
        self.began = self.saved = time.monotonic()
        state = state_to_resume(self._path(name), self.fingerprint, ALONE)
        if state is None:
            return None
        torch.set_rng_state(state["random"])
        if state["random_of_gpu"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["random_of_gpu"])
        print(f"{name}: continuing in epoch {state['epoch'] + 1} after step {state['step']}", file=sys.stderr, flush=True)
        return state

    def offer(self, name: str, state: Callable[[], dict]) -> None:
        leaving = bool(self.stop)
        if leaving or time.monotonic() - self.saved > self.every:
            self._save(name, state())
        if leaving:
            raise Stopped(f"{self.stop.reason}, saved {self._path(name)}")

    def end(self, name: str, state: Callable[[], dict]) -> None:
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        if time.monotonic() - self.began > self.every:
            self._save(name, state())
        self.offer(name, state)

    def _path(self, name: str) -> Path:
        return self.folder / f"{re.sub('[^A-Za-z0-9.-]+', '-', name)}.pt"

    def _save(self, name: str, state: dict) -> None:
        gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
        random = {"random": torch.get_rng_state(), "random_of_gpu": gpu}
        save_checkpoint({**state, **random, "fingerprint": self.fingerprint}, self._path(name))
        self.saved = time.monotonic()
