import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def package(tmp_path):
    """A package of the same name with a small graph of imports, digested by a copy of the real provenance.py."""
    invp = tmp_path / "invp"
    (invp / "objectives").mkdir(parents=True)
    for name in ("provenance.py", "files.py", "errors.py"):
        (invp / name).write_text((ROOT / "invp" / name).read_text())
    (invp / "__init__.py").write_text("")
    (invp / "objectives" / "__init__.py").write_text("")
    (invp / "maths.py").write_text('"""Maths."""\n\n\ndef formula(x):\n    """Doubles."""\n    return 2 * x  # twice\n')
    (invp / "other.py").write_text("VALUE = 1\n")
    (invp / "objectives" / "a.py").write_text("from invp.maths import formula\nfrom invp import files\n")
    (invp / "objectives" / "b.py").write_text("from invp import other\n")
    return tmp_path


def digest(package: Path, *roots: str) -> str:
    code = f"from invp.plumbing.provenance import code_digest; print(code_digest({list(roots)!r}))"
    return subprocess.run([sys.executable, "-c", code], cwd=package, capture_output=True, text=True, check=True).stdout.strip()


def test_comments_docstrings_and_format_change_nothing(package):
    before = digest(package, "invp.objectives.a")
    (package / "invp" / "maths.py").write_text("def formula(x):\n\n    # other words\n    return (2\n            * x)\n")
    assert digest(package, "invp.objectives.a") == before


def test_a_formula_changes_what_imports_it_and_nothing_else(package):
    a, b = digest(package, "invp.objectives.a"), digest(package, "invp.objectives.b")
    (package / "invp" / "maths.py").write_text("def formula(x):\n    return 3 * x\n")
    assert digest(package, "invp.objectives.a") != a
    assert digest(package, "invp.objectives.b") == b


def test_a_module_imported_from_the_package_counts(package):
    before = digest(package, "invp.objectives.b")
    (package / "invp" / "other.py").write_text("VALUE = 2\n")
    assert digest(package, "invp.objectives.b") != before


def test_plumbing_changes_nothing(package):
    before = digest(package, "invp.objectives.a")
    path = package / "invp" / "files.py"
    path.write_text(path.read_text() + "\nX = 1\n")
    assert digest(package, "invp.objectives.a") == before
