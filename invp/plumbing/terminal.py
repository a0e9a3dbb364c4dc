"""What the command line looks like on a terminal: bold and colour there, and plain text wherever else its words go."""

import os
import sys
from typing import TextIO

BOLD, RED, DIM = "1", "1;31", "2"  # ANSI's codes


def is_styled(stream: TextIO) -> bool:
    """Whether a stream shows colours: a terminal that can, of a user who did not set NO_COLOR (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, code: str, stream: TextIO | None = None) -> str:
    """The text in the style of an ANSI code where the stream (standard output) is a terminal; else the text as it is."""
    return f"\033[{code}m{text}\033[0m" if is_styled(stream or sys.stdout) else text
