"""Who may import whom (docs/architecture.md)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from invp.plugins import KINDS, plugin_names

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "invp"
STEPS = {"prepare", "pretrain", "graph", "features", "evaluate", "figure", "summary", "report", "explorer"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide a module from the code digest"
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return {name for name in found if name.split(".")[0] == "invp"}


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name == "core"], ids=lambda p: p.stem)
def test_core_imports_only_core(path):
    assert all(name == "invp" or name.startswith("invp.core") for name in imports(path))


@pytest.mark.parametrize("kind", KINDS)
def test_plugins_import_neither_steps_nor_other_kinds(kind):
    others = {f"invp.{other}" for other in KINDS if other != kind}
    for path in (PACKAGE / kind).glob("*.py"):
        for name in imports(path):
            assert name.split(".")[1:2] == [] or name.split(".")[1] not in STEPS, f"{path} imports the step {name}"
            assert not any(name == other or name.startswith(f"{other}.") for other in others), f"{path} imports {name}"


def test_models_import_no_plugin_and_no_step():
    for path in (PACKAGE / "models").glob("*.py"):
        for name in imports(path):
            part = (name.split(".") + [""])[1]
            assert part not in STEPS and part not in KINDS, f"{path} imports {name}"


def test_every_plugin_has_a_config_and_an_entry():
    entry = {"datasets": "load", "objectives": "Objective", "evals": "evaluate", "figures": "draw"}
    from invp.plugins import load_plugin

    for kind in KINDS:
        assert plugin_names(kind)
        for name in plugin_names(kind):
            module = load_plugin(kind, name)
            assert hasattr(module, "Config") and hasattr(module, entry[kind]), f"{kind}/{name}"


def test_help_is_quick_because_it_imports_no_library():
    code = "import sys; sys.argv = ['invp', '--help']\ntry:\n import runpy; runpy.run_module('invp', run_name='__main__')\nexcept SystemExit: pass\n"
    code += "print(sorted({'torch', 'numpy', 'pyarrow', 'omegaconf'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("step", ["prepare", "summary"])
def test_steps_without_tensors_do_not_import_torch(step):
    code = f"import sys, invp.{step}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
