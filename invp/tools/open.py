"""Open the report of a study in the browser; without a display its path is printed."""

import argparse
import os
import sys
import webbrowser
from pathlib import Path

from invp.plumbing.errors import UserError
from invp.plumbing.studies import add_study, configuration_of, study_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study(parser)


def run(arguments: argparse.Namespace) -> None:
    """Prints the report's path and, where there is a display, opens it; UserError if it was not made yet."""
    name = configuration_of(study_file(arguments.study))["study"]
    page = Path("results/studies", name, "report.html")
    if not page.exists():
        command = " ".join(["invp run", *filter(None, [arguments.study])])
        raise UserError(f"{page} was not made yet: {command} makes it, and `invp progress` shows what is finished so far")
    print(page)
    if has_display():
        webbrowser.open(page.resolve().as_uri())


def has_display() -> bool:
    """Whether a browser can be shown; one that is named by BROWSER always."""
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
