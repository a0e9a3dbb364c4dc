"""Saving and leaving before the end: after a signal, or when the job's minutes are over."""

import math
import signal
import time

from invp.training.distributed import on_any_process


class Left(Exception):
    """Raised where a training is asked to save and leave outside of its steps."""


class StopRequest:
    """Whether to save and leave: after SIGTERM or SIGUSR1, or when `max_minutes` are over (0: never)."""

    current: "StopRequest | None" = None  # this process's, for `leave_if_asked`

    def __init__(self, max_minutes: float):
        self.reason = ""
        self.deadline = time.monotonic() + 60 * max_minutes if max_minutes else math.inf
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, self._signalled)
        StopRequest.current = self

    def _signalled(self, number, frame):
        self.reason = signal.Signals(number).name

    def __bool__(self) -> bool:
        if not self.reason and time.monotonic() > self.deadline:
            self.reason = "the configured minutes are over"
        return bool(self.reason)


def leave_if_asked() -> None:
    """Raises Left if some process was asked to stop; every process calls it, between pieces of long work such as clusterings."""
    if any(on_any_process(bool(StopRequest.current))):
        raise Left
