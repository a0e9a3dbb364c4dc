"""Progress of long work: a tqdm bar on a terminal, a plain line every few seconds in a log."""

import sys
import time
from collections.abc import Callable

from tqdm import tqdm


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """Counts `total` units of work; `label` says what, `every` is the seconds between the lines of a log."""

    def __init__(self, label: str, total: int, unit: str = "img", done: int = 0, every: float = 10.0):
        self.label, self.total, self.unit, self.done, self.every = label, total, unit, done, every
        self.first = done
        self.started = self.shown = time.monotonic()
        self.bar = None
        if sys.stderr.isatty():
            self.bar = tqdm(total=total, initial=done, desc=label, unit=f" {unit}", dynamic_ncols=True, unit_scale=True)

    def update(self, amount: int, note: Callable[[], str] = str) -> None:
        """Adds finished work and shows it if it is time; what `note` returns is shown behind it, e.g. the loss: it is called only then."""
        self.done += amount
        now = time.monotonic()
        if self.bar is not None:
            if now - self.shown >= self.bar.mininterval:
                self.shown = now
                self.bar.set_postfix_str(note(), refresh=False)
            self.bar.update(amount)
        elif now - self.shown >= self.every or self.done >= self.total:
            self.shown = now
            rate = (self.done - self.first) / max(now - self.started, 1e-9)
            left = _clock((self.total - self.done) / rate) if rate > 0 else "?"
            line = f"{self.label}: {self.done:,}/{self.total:,} {self.unit}, {rate:,.0f} {self.unit}/s, {left} left"
            print(f"{line}  {note()}".rstrip(), file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
