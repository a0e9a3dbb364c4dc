"""The page "Which method for your images?" as a newcomer follows it: its commands, in an empty folder, on real images."""

import csv
import re
import time
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests import warm_jobs
from tests.conftest import Project

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs/compare.md").read_text()
COMMANDS = [line.split("  #")[0] for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.M | re.S) for line in block.splitlines()]
PICTURES = re.search(r"^```python\n# pictures\.py\n(.*?)^```", PAGE, re.M | re.S)[1]


def follow(folder: Path, data: Path, *changes: tuple[str, str]) -> tuple[Project, str, float]:
    """Follows the page with these changes of its text; the folder, what `compare` printed, and the seconds that the study took."""
    Project(ROOT).invp("init", str(folder))
    project, printed, taken = Project(folder), "", 0.0
    variables = {"INVP_DATA": str(data), "PYTHONPATH": str(ROOT)}
    script, commands = PICTURES, COMMANDS[COMMANDS.index("cd ../mine") + 1 :]
    for old, new in changes:
        assert old in script + "\n".join(commands), f"the page has no {old!r}"
        script, commands = script.replace(old, new), [line.replace(old, new) for line in commands]
    (folder / "pictures.py").write_text(script)
    assert [command.split()[0] for command in commands] == ["python", "python", "snakemake"]
    make, compare, run = (command.split() for command in commands)
    project.run(*make, **variables)
    printed = project.python(*compare[2:], **variables)
    assert f"\n  {' '.join(run)}\n" in printed, "the command that is printed is the page's"
    started = time.monotonic()
    project.python(*run, **variables, **warm_jobs.environment())
    taken = time.monotonic() - started
    return project, printed, taken


def scores(project: Project) -> dict[tuple[str, str], float]:
    rows = csv.DictReader((project.folder / "results/studies/compare-photos/summary.csv").open())
    return {(row["experiment"], f"{row['source']}.{row['metric']}"): float(row["value"]) for row in rows if row["value"]}


def test_the_page_is_followed_with_few_pictures(tmp_path, data_root):
    methods = ("invp,instance_discrimination,simclr", "invp,simclr")
    project, printed, _ = follow(
        tmp_path / "mine", data_root, ("EACH = 200", "EACH = 10"), ("--minutes 30", "--minutes 0.5"), methods
    )
    assert "80 training images, 10 classes, 32 pixels; 20 test images, a seeded share of 0.2 of each class" in printed
    assert "Batch 8" in printed and "minutes promised" in printed and "sum over all images" in printed
    study, shown = (
        project.folder / "config/studies/compare-photos.yaml",
        re.search(r"^```yaml\n# config/studies/\S+\n(.*?)^```", PAGE, re.M | re.S)[1],
    )
    written, said = OmegaConf.load(study), OmegaConf.create(shown.replace("compare-photos-instance-discrimination, ", ""))
    assert {key: written[key] for key in said} == dict(said)
    found = scores(project)
    assert found["compare-photos-invp", "training.views"] == found["compare-photos-simclr", "training.views"] > 0
    for name in ("invp", "simclr", "untrained"):
        assert (
            0 <= found[f"compare-photos-{name}", "knn.top1"] <= 100 and 0 <= found[f"compare-photos-{name}", "linear.top1"] <= 100
        )
    page = (project.folder / "results/studies/compare-photos/comparison.html").read_text()
    assert "With one seed nothing can be told over seeds" in page and "Which, at equal cost?" in page
    again = project.python(
        "invp", "compare", "--data", "photos", "--methods", "invp", "--minutes", "1", expect=2, PYTHONPATH=str(ROOT)
    )
    assert "compare-photos.yaml exists; delete it" in again


@pytest.mark.slow
def test_the_page_is_followed_to_the_letter_in_the_time_that_it_promises(tmp_path, data_root):
    project, printed, taken = follow(tmp_path / "mine", data_root)
    promised = float(re.search(r"([\d.]+) minutes promised", printed)[1])
    assert promised <= 30 and taken / 60 == pytest.approx(promised, rel=1 / 3)
    assert len({value for (_, column), value in scores(project).items() if column == "training.views"}) == 1


@pytest.mark.slow
def test_a_folder_without_labels(tmp_path, data_root):
    changes = (("EACH = 200", "EACH = 10"), ("--minutes 30", "--minutes 0.5"), ("invp,instance_discrimination,simclr", "invp"))
    flat = ('Path("photos", f"class-{label}")', 'Path("photos")'), ('f"{written[label]}.png"', 'f"{label}-{written[label]}.png"')
    project, printed, _ = follow(tmp_path / "mine", data_root, *changes, *flat)
    assert "no labels: nothing is measured against them" in printed
    found = scores(project)
    assert found["compare-photos-invp", "graph.mutual_share"] > 0 and not [key for key in found if key[1].startswith("knn")]
    assert (project.folder / "results/compare-photos-invp/seed-0/explorer.html").exists()
