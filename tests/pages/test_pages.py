"""The report and the comparison, made whole: strangers' names come through, and a missing value is an error."""

import csv
import json
import shutil
import subprocess
import sys
from collections import defaultdict
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hostile import HOSTILE, hostile_study
from jinja2 import UndefinedError

from invp.pages import comparison, report
from invp.pages.html import TEMPLATES, render
from invp.pages.index import write_index
from invp.pages.numbers import read_numbers
from invp.pages.tables import NOT_MADE, markdown_text
from invp.plumbing.not_made import NotMade
from invp.steps import report as report_step
from invp.steps import summary as summary_step

LINE = " ".join(HOSTILE.split())  # as a browser shows it
LEFT_OUT = f"Not shown, since it would need a number of ours on {LINE}: {LINE}."
PAGES = ("page", "comparison", "overview", "record")
ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def study(tmp_path):
    return hostile_study(tmp_path / "results")


class Page(HTMLParser):
    """A page as its reader gets it: texts and attributes of elements by their name, and comments."""

    def __init__(self, path: Path):
        super().__init__()
        self.texts: dict[str, list[str]] = defaultdict(list)
        self.attributes: dict[str, list[dict]] = defaultdict(list)
        self.comments: list[str] = []
        self._open: list[list[str]] = []  # name and text of the elements that have not ended
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self._open, "every element ends"

    def handle_starttag(self, name, attributes):
        self.attributes[name].append(dict(attributes))
        if name not in ("meta", "img", "br", "wbr"):
            self._open.append([name, ""])

    def handle_startendtag(self, name, attributes):
        self.attributes[name].append(dict(attributes))

    def handle_endtag(self, name):
        opened, text = self._open.pop()
        assert opened == name
        self.texts[name].append(" ".join(text.split()))

    def handle_data(self, text):
        if self._open:
            self._open[-1][1] += text

    def handle_comment(self, text):
        self.comments.append(text)


def indexed(study) -> Path:
    """A results folder with the study's report where the workflow has it."""
    folder = study.results.parent / "indexed/studies/hostile"
    folder.mkdir(parents=True)
    for name, file in (("page", "report.html"), ("comparison", "comparison.html"), ("overview", "report.json")):
        shutil.copy(study.results / name, folder / file)
    return folder.parent.parent


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")  # matplotlib's font has no fox
def test_names_of_strangers_come_through_the_pages(study):
    report_step.run(study.job("report", *PAGES))
    page, other = (Page(study.results / name) for name in ("page", "comparison"))
    for each in (page, other):
        assert "script" not in each.texts and not any("<script" in comment for comment in each.comments)
    assert page.texts["title"] == [f"{LINE} - Invariance Propagation"] and page.texts["h1"] == ["a is behind b."]
    assert (
        f"Invariance Propagation · {LINE}" in page.texts["p"] and LINE in page.texts["p"] and page.texts["dd"].count(LINE) == 2
    ), "the study's description, an experiment's, a protocol"
    assert page.texts["summary"][0] == LINE, "a published table's title"
    assert LEFT_OUT in page.texts["p"]
    assert page.texts["td"].count(LINE) == 4, "the device of four runs"
    assert page.texts["th"].count(LINE) == 1 + 2, "a published method, a class of two experiments"
    assert "b" in page.texts["text"] and any(text.startswith('"It') for text in page.texts["text"]), "classes on the map"
    assert any(HOSTILE in each["alt"] for each in page.attributes["img"] if "image" in each["alt"]), "a class in a walk"
    assert other.texts["h1"] == [f"{LINE}: comparison"] and f"{LINE} (n = 8 test images)" in other.texts["caption"]
    assert f"stem {LINE}" in other.texts["th"]
    labels = [attributes.get("aria-label", "") for attributes in other.attributes["div"]]
    assert any(label.startswith(f"{HOSTILE} (r, n = 8) against layer: 0 stem {HOSTILE}, 1 layer1: a from ") for label in labels)
    index = Page(write_index(indexed(study)))
    assert LINE in index.texts["a"] and index.comments == other.comments == []


def test_names_of_strangers_come_through_the_tables(study):
    names = ("csv", "table", "markdown", "latex", "tables")
    summary_step.run(study.job("summary", *names))
    numbers, text, markdown, latex, tables = ((study.results / name).read_bytes().decode() for name in names)
    lines = list(csv.DictReader(tables.splitlines(keepends=True)))
    assert [line["method"] for line in lines] == [HOSTILE, "a", "b"]
    views = [row["value"] for row in csv.DictReader(numbers.splitlines()) if row["metric"] == "views"]
    assert views == ["20"] * 4, "a whole number is written as one"
    assert text.splitlines()[0] == LINE and len(text.splitlines()) == 1 + 2 + 2 + 1 + 2, "and what the tests say"
    headings = [line for line in markdown.splitlines() if line.startswith("#")]
    assert len(headings) == 2 and headings[0] == headings[1] and len(markdown.splitlines()) == 2 + 4 + 2 + 4 + 1 + 2 + 5 + 2
    assert markdown.splitlines()[-1] == markdown_text(LEFT_OUT)
    comments = [line for line in latex.splitlines() if line.startswith("%")]
    assert comments[-2:] == [f"% {LINE}", f"% {LEFT_OUT}"] and [f"% {line}" for line in text.splitlines()[-3:]] == comments[:-2]


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_what_was_not_made_is_listed_with_its_reason(study):
    names = ("csv", "table", "markdown", "latex", "tables")
    summary_step.run(study.job("summary", *names))
    before = {name: (study.results / name).read_text(encoding="utf-8") for name in names}
    study.not_made = [NotMade("a", 1, 2, "svm", HOSTILE), NotMade("b", 0, None, "positives", "few images")]
    summary_step.run(study.job("summary", *names))
    after = {name: (study.results / name).read_text(encoding="utf-8") for name in names}
    assert after["tables"] == before["tables"] and "not_made" not in before["csv"]
    rows = [row for row in csv.DictReader(after["csv"].splitlines(keepends=True)) if row["not_made"]]
    assert [tuple(row.values()) for row in rows] == [
        ("a", "1", "2", "svm", "", "", "", "", "", HOSTILE),
        ("b", "0", "", "positives", "", "", "", "", "", "few images"),
    ]
    for name, start in (("table", NOT_MADE), ("markdown", f"\n## {NOT_MADE}"), ("latex", f"\n% {NOT_MADE}")):
        assert after[name].startswith(before[name] + start) and after[name].count("few images") == 1, name
    report_step.run(study.job("report", *PAGES))
    page = Page(study.results / "page")
    assert "Not made" in page.texts["h2"] and page.texts["td"].count(LINE) == 4 + 1


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
@pytest.mark.parametrize("name", ["report", "comparison"])
def test_a_value_that_is_missing_is_an_error(study, name):
    numbers = read_numbers(study.section, study.inputs)
    if name == "report":
        values = report.values(study.section, study.inputs, numbers, study.results, [])
    else:
        metrics = [json.loads(path.read_text()) for path in study.inputs["metrics"]]
        values = comparison.values(study.section, numbers, metrics)
    assert render(f"{name}.html", **values).endswith("</html>")
    for missing in values:
        others = {key: value for key, value in values.items() if key != missing}
        with pytest.raises(UndefinedError, match=f"'{missing}' is undefined"):
            render(f"{name}.html", **others)


ROOTS = {
    "pretrain": ["invp.steps.pretrain", "invp.objectives.invp"],
    "features": ["invp.steps.features"],
    "evaluate": ["invp.steps.evaluate", "invp.evals.knn"],
    "explorer": ["invp.steps.explorer"],
    "summary": ["invp.steps.summary"],
    "report": ["invp.steps.report"],
}


def digests(folder: Path) -> dict[str, str]:
    """The code digest of every step of the package in a folder."""
    code = "import json; from invp.plumbing.provenance import code_digest\n"
    code += f"print(json.dumps({{step: code_digest(modules) for step, modules in {ROOTS}.items()}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_an_edit_of_a_template_is_seen_by_the_step_that_makes_pages_of_it(tmp_path):
    shutil.copytree(ROOT / "invp", tmp_path / "invp", ignore=shutil.ignore_patterns("__pycache__"))
    before = digests(tmp_path)
    for name in ("report.css", "base.html", "macros.html", "first_screen.html", "report.html", "comparison.html", "explorer.html"):
        path = tmp_path / TEMPLATES.relative_to(ROOT) / name
        text = path.read_text()
        path.write_text(f"{text}\n")
        after = digests(tmp_path)
        changed = {step for step in ROOTS if after[step] != before[step]}
        assert changed == ({"explorer"} if name == "explorer.html" else {"report"}), name
        path.write_text(text)
