"""The page "Fifteen minutes" as a newcomer follows it: its files and its commands, one after the other."""

import re
import shlex
from pathlib import Path

import pytest

from tests import warm_jobs
from tests.conftest import Project, fresh

PAGE = (Path(__file__).resolve().parent.parent.parent / "docs/tutorial.md").read_text()
BLOCKS = re.findall(r"^```(sh|yaml)\n(.*?)^```", PAGE, re.M | re.S)


def follow(project: Project, *changes: tuple[str, str]) -> dict[str, str]:
    """Writes the page's files and gives its commands with these changes; command -> what it printed."""
    printed = {}
    for kind, text in BLOCKS:
        for old, new in changes:
            text = text.replace(old, new)
        if kind == "yaml":
            name, content = re.fullmatch(r"# (\S+)\n(.*)", text, re.S).groups()
            (project.folder / name).write_text(content)
            continue
        for line in text.splitlines():
            words = shlex.split(line, comments=True)
            if words[0] == ".":
                continue
            # The environment is there already: what `make demo` does behind it.
            words = ["invp", "run"] if words == ["make", "demo"] else words
            printed[" ".join(words)] = project.python(*words, **warm_jobs.environment(), DISPLAY="", WAYLAND_DISPLAY="", BROWSER="")
    return printed


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([], id="as it stands"),
        pytest.param([("digits-invp", "smoke-invp"), ("stage-90", "stage-2"), ("{k: 8}", "{k: 3}")], id="with a tiny network"),
    ],
)
def test_the_page_is_followed(tmp_path, changes):
    project = fresh(tmp_path / "clone")
    if changes:
        study = (project.folder / "config/studies/smoke.yaml").read_text()
        (project.folder / "config/config.yaml").write_text(study.replace("study: smoke", "study: digits"))
    printed = follow(project, *changes)
    commands = list(printed)
    assert commands[0] == "invp run" and "estimate: " in printed["invp run"] and "knn.top1" in printed["invp run"]
    assert "report: results/studies/digits/report.html" in printed["invp run"] and "GPU-hours" not in printed["invp run"]
    assert printed["invp open"].startswith("results/studies/digits/report.html")
    confused, anchor = (printed[command] for command in commands if command.startswith("invp inspect"))
    assert (project.folder / "edges.png").stat().st_size > 1000 and "8" in confused and "image 1137, class 8" in anchor
    trained = next(line for line in printed["invp plan neighbours"].splitlines() if line.startswith("pretrain"))
    stages = len(re.findall(r"\d+", "15, 45, 90")) if not changes else 2
    assert f"{stages} of {2 * stages}" in trained, "only the new experiment is trained"
    assert "report: results/studies/neighbours/report.html" in printed["invp run neighbours"]
    assert (project.folder / "results/studies/neighbours/comparison.html").exists()
    assert "invp/evals/knn.py" in printed[next(command for command in commands if command.startswith("invp why"))]
    assert "0 faults" in printed["invp verify"]
