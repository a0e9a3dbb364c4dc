"""The Markdown pages name only what there is: paths, modules, commands with their options, links; and their tables are whole."""

import argparse
import importlib
import itertools
import re
import runpy
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from invp.pages.numbers import CSV_HEADER
from invp.plumbing.plugins import load_plugin, plugin_names

ROOT = Path(__file__).resolve().parent.parent
PAGES = [
    ROOT / "README.md",
    ROOT / "results/README.md",
    ROOT / "config/README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("profiles/*/*.md")),
]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

FOLDERS = "invp|docs|config|workflow|tests|profiles|benchmarks"
TO_BE_WRITTEN = {name for page in PAGES for name in re.findall(r"^```\w+\n# ([\w./-]+)$", page.read_text(), re.M)}
TOOLS = {name.replace("_", " "): ("tools", name) for name in plugin_names("tools")}
COMMANDS = TOOLS | {name: ("steps", name) for name in plugin_names("steps")}


def expanded(path: str) -> list[str]:
    """`a/{b,c}` as a/b and a/c."""
    pieces = [piece.strip("{}").split(",") for piece in re.split(r"(\{[^}]*\})", path)]
    return ["".join(each) for each in itertools.product(*pieces)]


def paths_of(text: str) -> set[str]:
    """The paths of the repository that a text names; of those with NAME in them, the folder."""
    named = re.findall(rf"(?<![\w/.{{}}-])(?:{FOLDERS})/[\w./{{}},*-]*", text)
    paths = {each.rstrip(".,-") for path in named for each in expanded(path.rstrip(".,-"))}
    return {re.sub(r"[^/]*NAME.*", "", path) for path in paths}


def commands_of(text: str) -> list[str]:
    """What follows `invp` or `python -m invp` in code, a comment behind it left out."""
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    lines = [line.split("  #")[0] for block in re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S) for line in block.splitlines()]
    return [match[1] for code in (*spans, *lines) if (match := re.search(r"(?:python -m |^)invp (.*)", " ".join(code.split())))]


def slugs_of(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@each_page
def test_every_path_exists(page):
    for path in paths_of(page.read_text()):
        assert path in TO_BE_WRITTEN or list(ROOT.glob(path.rstrip("/"))), path


@each_page
def test_every_dotted_name_exists(page):
    for name in re.findall(r"(?<![\w/])invp(?:\.\w+)+", page.read_text()):
        pieces = name.split(".")
        if pieces[-1] in ("x", "py", "yaml"):  # of `from invp.x import y` and file names
            continue
        try:
            importlib.import_module(name)
        except ImportError:
            assert hasattr(importlib.import_module(".".join(pieces[:-1])), pieces[-1]), name


@each_page
def test_every_command_and_its_options_exist(page):
    for command in commands_of(page.read_text()):
        one, two = (re.findall(r"[\w]+", command) + ["", ""])[:2]
        if command.startswith("-") or one in ("", "STEP") or f"invp/steps/{one}.py" in TO_BE_WRITTEN:
            continue
        name = f"{one} {two}" if f"{one} {two}" in COMMANDS else one
        assert name in COMMANDS, f"there is no command {name}"
        parser, module = argparse.ArgumentParser(), load_plugin(*COMMANDS[name])
        module.add_arguments(parser)
        if getattr(module, "PASSES_ON", False):
            continue
        for option in re.findall(r"(?<!\S)--[a-z-]+", command):
            assert option in parser.format_help(), f"{name} has no option {option}"


@each_page
def test_every_benchmark_and_make_target_exists(page):
    text, targets = page.read_text(), re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    for name in re.findall(r"python -m benchmarks\.(\w+)", text):
        assert (ROOT / "benchmarks" / f"{name}.py").exists(), name
    for name in re.findall(r"(?:`|^)make ([a-z]+)", text, re.M):
        assert name in targets, name


def test_every_page_is_in_the_sites_list_of_contents():
    listed = re.findall(r"([\w]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(listed) == sorted(path.name for path in ROOT.glob("docs/*.md"))


@pytest.mark.parametrize("name", ["method", "workflow"])
def test_a_picture_is_what_its_script_draws(name):
    made = runpy.run_path(str(ROOT / f"docs/images/{name}.py"))
    assert made["picture"]() == (ROOT / f"docs/images/{name}.svg").read_text()


def test_the_picture_of_the_workflow_has_every_rule_that_makes_results():
    """Parts of an evaluation are left out: they are jobs of one."""
    rules = set(runpy.run_path(str(ROOT / "docs/images/workflow.py"))["RULES"])
    steps = {path.stem for path in (ROOT / "invp/steps").glob("[a-z]*.py")}
    assert rules == steps - {"evaluate_part"}


def test_the_picture_of_the_method_shows_what_its_words_say():
    made = runpy.run_path(str(ROOT / "docs/images/method.py"))
    places, classes = made["points"]()
    _, steps, hard = made["found"](places)
    rows = np.concatenate([places, np.sqrt(1 - (places**2).sum(1, keepdims=True))], 1)
    nearest = np.argsort(-rows @ rows[made["ANCHOR"]])[1 : 1 + len(steps)]
    assert {classes[i] for i in steps} == {0} and sum(classes[nearest]) == 1, "as its words say"
    assert set(hard) < set(steps)


def test_an_installation_says_how_large_it_is_before_it_begins():
    done = subprocess.run(["make", "-n", "demo", "VENV=.no-such-environment"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 0 < done.stdout.index("8 GB on disk") < done.stdout.index("pip install") < done.stdout.index("invp run")


def test_the_examples_of_the_page_on_python_run(monkeypatch, tmp_path):
    """On rows of their own; what reads results gets small ones."""
    encoder, graph, walk, results = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/api.md").read_text(), re.M | re.S)
    monkeypatch.chdir(tmp_path)
    for path in re.findall(r'"(results/[^"]+)"', graph + results):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"neighbours": [[(i + 1) % 20] for i in range(20)]})
    path = re.search(r'memory_map\("([^"]+)"', graph)[1]
    with pa.OSFile(path, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    line = dict.fromkeys(CSV_HEADER, "1") | {"source": "knn", "metric": "top1"}
    Path(re.search(r'open\("([^"]+)"', results)[1]).write_text(f"{','.join(line)}\n{','.join(line.values())}\n")
    names: dict = {}
    for example in (graph, walk, results):
        exec(example, names)
    assert names["nearest"] == 18 and len(names["reached"]) > 4 and len(names["knn"]) == 1
    from PIL import Image

    import invp

    network = torch.nn.Flatten()
    network.transform = lambda image: torch.zeros(3, 8, 8)
    monkeypatch.setattr(invp, "load_encoder", lambda path: network, raising=False)
    Image.new("L", (8, 8)).save("digit.png")
    exec(encoder, names)
    assert names["features"].shape == (1, 192)


@pytest.mark.parametrize("name", [path.stem for path in sorted((ROOT / "benchmarks").glob("*.py"))])
def test_every_benchmark_can_be_started(name):
    importlib.import_module(f"benchmarks.{name}")


@each_page
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\[[^\]]+\]\(([^)]+)\)", page.read_text()):
        if not target.startswith("https://"):
            name, _, anchor = target.partition("#")
            other = page.parent / name if name else page
            assert other.exists(), target
            assert not anchor or anchor in slugs_of(other), target


@each_page
def test_the_rows_of_a_table_have_the_cells_of_its_header(page):
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S)
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        rows = table.splitlines()
        assert re.fullmatch(r"\|(-+\|)+", rows[1]), rows[0]
        for row in rows:
            assert row.endswith("|") and len(re.findall(r"(?<!\\)\|", row)) == rows[1].count("|"), row


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_the_tree_of_folders_is_as_it_is_drawn(page):
    tree = re.search(r"^```\n(Snakefile .*?)^```", (ROOT / page).read_text(), re.M | re.S)[1]
    folders: list[tuple[int, Path]] = [(-1, ROOT)]
    named = set()
    for line in tree.splitlines():
        indent = len(line) - len(line.lstrip())
        while folders[-1][0] >= indent:
            folders.pop()
        for name in itertools.takewhile(re.compile(r"[\w.]+(/[\w.]*)*").fullmatch, re.split(r"\s{2,}", line.strip())):
            path = folders[-1][1] / name
            assert path.exists(), path
            named.add(path)
        folders.append((indent, path))
    missing = {folder for folder in (ROOT / "invp").iterdir() if folder.is_dir() and folder.name != "__pycache__"} - named
    assert not missing, f"{page} does not name {missing}"
