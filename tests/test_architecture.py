"""The house: who may import whom (the table of docs/architecture.md), no circles, and how long a file, a function and a signature may be."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from invp.plumbing.plugins import KINDS, load_plugin, plugin_names

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "invp"
FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """`training.loop` for invp/training/loop.py, `core` for invp/core/__init__.py."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {name_of(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """The modules of the package that a file imports, anywhere in it, without the leading `invp.`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.split(".")[0] == "invp" for alias in node.names), f"{path}: write `from invp.x import y`"
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide a module from the code digest"
            if node.module.split(".")[0] == "invp":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}".removeprefix("invp.")
                    if inner in MODULES or node.module != "invp":  # what is the package's own is no module
                        found.add(inner if inner in MODULES else node.module.removeprefix("invp."))
    return found


def law() -> list[tuple[str, set[str]]]:
    """The rows of the table: a folder or module, and the folders and modules that it may import."""
    text = (ROOT / "docs/architecture.md").read_text()
    table = text[text.index("## Who may import whom") :].split("|---|---|\n")[1].split("\n\n")[0]
    rows = [[re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:3]] for line in table.splitlines()]
    return [(place, set(allowed)) for places, allowed in rows for place in places]


def within(module: str, place: str) -> bool:
    return module == place or module.startswith(f"{place}.")


@pytest.mark.parametrize("module", MODULES)
def test_the_law_of_imports(module):
    allowed = next((allowed for place, allowed in law() if within(module, place)), None)
    assert allowed is not None, f"the table of docs/architecture.md has no row for {module}"
    for other in imports(MODULES[module]):
        assert any(within(other, place) for place in allowed), f"invp.{module} imports invp.{other}"


def test_the_table_names_only_what_there_is():
    for place, allowed in law():
        for each in {place, *allowed}:
            assert (PACKAGE / each.replace(".", "/")).is_dir() or each in MODULES, each


def test_no_circle_of_imports():
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join([*path[path.index(module) :], module])
        if module not in done:
            for other in imports(MODULES[module]):
                if other in MODULES:
                    visit(other, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


def test_two_modules_at_the_root():
    assert [path.name for path in sorted(PACKAGE.glob("*.py"))] == ["__init__.py", "__main__.py"]


@pytest.mark.parametrize("module", MODULES)
def test_sizes(module):
    """300 lines a file, 60 a function, 7 parameters a signature; longer only with the reason on the `def` line or above it."""
    lines = MODULES[module].read_text().splitlines()
    assert len(lines) <= 300
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.FunctionDef):
            arguments = [
                a for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs) if a.arg not in ("self", "cls")
            ]
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            reason = lines[first - 2].lstrip().startswith("# ") or "# " in lines[node.lineno - 1].replace("# fmt", "").replace(
                "# type", ""
            )
            assert node.end_lineno - node.lineno < 60 or reason, (
                f"{node.name} has {node.end_lineno - node.lineno + 1} lines and no reason"
            )
            assert len(arguments) <= 7 or reason, f"{node.name} has {len(arguments)} parameters and no reason"


@pytest.mark.parametrize("kind", ["steps", "tools", *KINDS])
def test_every_file_of_a_folder_keeps_its_contract(kind):
    entries = {
        "steps": ["section", "run"],
        "tools": ["add_arguments", "run"],
        "datasets": ["Config", "SPLITS", "load"],
        "objectives": ["Config", "Objective"],
        "evals": ["Config", "NEEDS", "evaluate"],
        "figures": ["Config", "NEEDS", "draw"],
    }
    assert plugin_names(kind)
    for name in plugin_names(kind):
        module = load_plugin(kind, name)
        assert all(hasattr(module, entry) for entry in entries[kind]), f"{kind}/{name}"


def test_every_step_has_a_rule_of_its_name():
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    assert sorted(re.findall(r"^rule (\w+):", rules, re.MULTILINE)) == plugin_names("steps")


def test_what_a_finished_stage_gives_comes_before_the_next_training():
    """With fewer cores than trainings, graphs, evaluations and explorers would wait for hours; a rule of `use rule` has its parent's."""
    rules = "".join(path.read_text() for path in (ROOT / "workflow/rules").glob("*.smk"))
    priorities = {
        name: re.search(r"^    priority: (\d+)", body, re.M)
        for name, body in re.findall(r"^rule (\w+):\n((?:    .*\n|\n)+)", rules, re.M)
    }
    assert sorted(priorities) == plugin_names("steps")
    assert priorities.pop("pretrain")[1] == "0"
    assert {name: match and match[1] for name, match in priorities.items()} == dict.fromkeys(priorities, "1")


def test_help_is_quick_because_it_imports_no_library():
    code = "import sys; sys.argv = ['invp', '--help']\ntry:\n import runpy; runpy.run_module('invp', run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'numpy', 'pyarrow', 'omegaconf', 'shtab', 'rich', 'snakemake'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("step", ["prepare", "summary", "report", "explorer", "figure", "evaluate", "evaluate_part"])
def test_steps_without_tensors_do_not_import_torch(step):
    code = f"import sys, invp.steps.{step}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_every_metric_knows_its_unit_and_direction():
    from invp.plumbing.metrics import GRAPH, TRAINING, metric_of

    tables = {"graph": GRAPH, "training": TRAINING} | {name: load_plugin("evals", name).METRICS for name in plugin_names("evals")}
    for table in tables.values():
        assert all(metric.better in ("higher", "lower", "") for metric in table.values())
    measures, step = ((PACKAGE / path).read_text() for path in ("core/graph_measures.py", "steps/graph.py"))
    measured = re.findall(r'(?:result|summary\["measures"\])\["([a-z_]+)"\]', measures + step)
    measured += re.findall(r'^        "([a-z_]+)": ', measures, re.MULTILINE)
    assert len(measured) > 10
    for name in measured:
        metric_of(GRAPH, name)
