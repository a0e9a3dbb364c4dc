"""Digests of code: what changes one, what does not, and that every supported Python gives the same."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in (ROOT / "invp").rglob("*.py")
)
# Syntax of which Pythons make different trees, or which they print in different ways, as far as the oldest supported one has it.
SAMPLE = r'''
"""A docstring."""
from __future__ import annotations
import asyncio, os
from collections.abc import Callable as C

def outer(a: int, /, b: "str" = "x", *c: float, d: list[int] | None = None, **e: object) -> dict[str, int]:
    "Another one."
    text = "one " 'two ' f"{a!r:>{b}}{{}}" f"{a + 1 = }, {b=!s:^10} {d:}" "three\n" rf"\d{a}" u"four" f"" f"{'in' f'{a}' 'ner'}"
    number = 1_000 + 0x10 + 1e400 + 1j + -0.0 + 10 ** 30
    letters = "ä\u0378\U0001fa75\U0001fadf\u2028", b"\x00\xff", ...
    if (n := len(text)) > 10 and not (1 < n <= 3 or n is None):
        first, *rest = [*range(n), *c]
        return {**e, "n": n, **{k: v for k, v in zip(first, rest) if k if v}}
    match a:
        case {"x": [1, 2, *others], **more} if others: pass
        case outer(b=1) | -1 | None | True | "s" as found: print(found)
        case _: print(lambda x, y=1, *z, w=2, **v: (x, y))
    with open(text) as f, (open(text)) as g: del f, g
    try: raise ValueError from None
    except* (ValueError, TypeError) as error: assert error, f"{error}"
    else: global G
    finally: print(a if b else c[1:2, ..., ::3], c[*rest], sep="")
    for i, in []: continue
    else: i: int
    while False: break

@outer
class K(dict, metaclass=type):
    """Text."""
    x: int = 1
    async def m(self):
        async with self as s, s: yield [await y async for y in self if y]
    @property
    def p(self): return (yield from self)
'''
SAMPLE_DIGEST = "228cac6f7387095fba1017eb5d0f3f76bc51d99d33f4584166faa412f5a9dc48"


def pythons() -> list[str]:
    """Other supported Pythons of this machine, one of each minor version."""
    folders = [
        *os.environ["PATH"].split(os.pathsep),
        *Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")).glob("versions/*/bin"),
    ]
    found = {sys.version_info[:2]: ""}
    for path in (Path(folder) / f"python3.{minor}" for folder in folders for minor in range(11, 20)):
        if path.exists():
            code = "import sys; print(*sys.version_info[:2])"
            done = subprocess.run(
                [path, "-c", code], capture_output=True, text=True
            )  # pyenv's shims fail where it is not activated
            if done.returncode == 0 and tuple(map(int, done.stdout.split())) >= (3, 11):
                found.setdefault(tuple(map(int, done.stdout.split())), str(path))
    return [path for path in found.values() if path]


def digests(folder: Path, modules: list[str], python: str = sys.executable) -> dict[str, str]:
    """Module -> digest, by the package in `folder` under some Python, without any library."""
    code = (
        f"import json; from invp.plumbing.provenance import module_digest as d; print(json.dumps({{m: d(m) for m in {modules!r}}}))"
    )
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([python, "-c", code], cwd=folder, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


class Package:
    """A small package of the same name with the real provenance.py; `digest(...)` is of its objective a, which imports the rest."""

    def __init__(self, folder: Path):
        self.folder = folder
        plumbing = folder / "invp" / "plumbing"
        plumbing.mkdir(parents=True)
        for name in ("provenance", "plugins", "errors"):
            shutil.copy(ROOT / "invp" / "plumbing" / f"{name}.py", plumbing)
        self.write("core.maths", '"""Maths."""\n\n\ndef formula(x):\n    """Doubles."""\n    return 2 * x  # twice\n')
        self.write("core.other", 'VALUE = "one"\n')
        self.write(
            "objectives.a", "import os\nfrom invp.core.maths import formula\nfrom invp.plumbing import errors\n\nprint(formula)\n"
        )
        self.write("objectives.b", "from invp.core import other\n")
        self.write("tools.look", "VALUE = 1\n")
        self.write("pages.page", 'NAME = "page.html"\n')
        (folder / "invp/pages/templates").mkdir()
        (folder / "invp/pages/templates/page.html").write_text('<style>{% include "page.css" %}</style>')
        (folder / "invp/pages/templates/page.css").write_text("p {}")
        (folder / "invp/pages/templates/else.css").write_text("p {}")

    def write(self, module: str, text: str) -> None:
        path = self.folder.joinpath("invp", *module.split(".")).with_suffix(".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def digest(self, module: str = "objectives.a") -> str:
        return digests(self.folder, [f"invp.{module}"])[f"invp.{module}"]


@pytest.fixture
def package(tmp_path):
    return Package(tmp_path)


A = "import os\nfrom invp.core.maths import formula\nfrom invp.plumbing import errors\n\nprint(formula)\n"
SAME = {
    "comments, docstrings and format of what is imported": (
        "core.maths",
        "def formula(x):\n\n    # other words\n    return (2\n            * x)\n",
    ),
    "a docstring that was not there": ("objectives.a", f'"""Words."""\n\n{A}'),
    "a bare string": ("objectives.a", A.replace("\nprint", '\n"""What follows prints."""\nprint')),
    "an import twice": ("objectives.a", A.replace("\nprint", "from invp.core.maths import formula\n\nprint")),
    "imports in another order": ("objectives.a", A.replace("import os\n", "").replace("\nprint", "import os\n\nprint")),
    "line ends and a mark of the byte order": ("objectives.a", "\ufeff" + A.replace("\n", "\r\n")),
    "plumbing": ("plumbing.errors", "class UserError(Exception):\n    pass\n\n\nX = 1\n"),
    "a tool": ("tools.look", "VALUE = 2\n"),
    "a page": ("pages.page", "NAME = 2\n"),
    "another module": ("core.other", "VALUE = 2\n"),
}
OTHER = {
    "a formula": ("core.maths", "def formula(x):\n    return 3 * x\n"),
    "another type of number": ("core.maths", "def formula(x):\n    return 2.0 * x\n"),
    "a name from a module of other content": ("objectives.a", A.replace("invp.core.maths import", "invp.core.other import VALUE as")),
    "a name from another library": ("objectives.a", A.replace("import os", "import sys as os")),
    "one import less": ("objectives.a", A.replace("import os\n", "")),
    "an import after a statement that it may change": ("objectives.a", A.replace("import os\n", "") + "import os\n"),
    "another import of the same name, later": ("objectives.a", A.replace("\nprint", "from invp.core.other import VALUE as formula\n\nprint")),
    "a default value": ("core.maths", "def formula(x=1):\n    return 2 * x\n"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME)
def test_what_changes_nothing(name, package):
    before = package.digest()
    package.write(*SAME[name])
    assert package.digest() == before


@pytest.mark.parametrize("name", OTHER)
def test_what_changes_a_digest(name, package):
    before, unconcerned = package.digest(), package.digest("objectives.b")
    package.write(*OTHER[name])
    assert package.digest() != before
    assert package.digest("objectives.b") == unconcerned


def test_quotes_and_brackets_change_nothing_and_strings_do(package):
    before = package.digest("objectives.b")
    package.write("core.other", "VALUE = (\n    'o'  # one\n    'ne'\n)\n")
    assert package.digest("objectives.b") == before
    package.write("core.other", "VALUE = 'two'\n")
    assert package.digest("objectives.b") != before


def test_a_module_may_move_with_its_imports_renamed(package):
    before = package.digest()
    (package.folder / "invp/core/deep").mkdir()
    (package.folder / "invp/core/maths.py").rename(package.folder / "invp/core/deep/arithmetic.py")
    package.write("objectives.a", A.replace("invp.core.maths", "invp.core.deep.arithmetic"))
    assert package.digest() == before


def test_modules_that_swap_names_and_content_change_nothing(package):
    text = "from invp.core import maths as m\nfrom invp.core import other as o\n\nprint(m.formula, o.VALUE)\n"
    package.write("objectives.a", text)
    before = package.digest()
    maths, other = (package.folder / "invp/core" / name for name in ("maths.py", "other.py"))
    content = maths.read_text(), other.read_text()
    other.write_text(content[0])
    maths.write_text(content[1])
    assert package.digest() != before
    package.write("objectives.a", text.replace("maths", "?").replace("other", "maths").replace("?", "other"))
    assert package.digest() == before


@pytest.mark.parametrize("text", [
    "from ..core.maths import formula", "from ..core import maths", "from invp.core.maths import *", "import invp.core.maths",
    "def f():\n    from invp.core.maths import formula", "if f:\n    import os, invp.core.maths as m",
])  # fmt: skip
def test_every_way_to_import_counts(package, text):
    package.write("objectives.a", text + "\n")
    before = package.digest()
    package.write(*OTHER["a formula"])
    assert package.digest() != before


def test_templates_count_for_the_page_that_names_them_and_through_one_another(package):
    before, training = package.digest("pages.page"), package.digest()
    templates = package.folder / "invp/pages/templates"
    (templates / "else.css").write_text("a {}")
    assert package.digest("pages.page") == before
    (templates / "page.css").write_text("a {}")
    styled = package.digest("pages.page")
    assert styled != before
    (templates / "page.html").write_text((templates / "page.html").read_text() + " ")
    assert package.digest("pages.page") not in (before, styled)
    assert package.digest() == training


def refused(package: Package) -> str:
    code = "from invp.plumbing.provenance import code_digest; code_digest(['invp.objectives.a'])"
    done = subprocess.run([sys.executable, "-c", code], cwd=package.folder, capture_output=True, text=True)
    assert done.returncode and "RecursionError" not in done.stderr
    return done.stderr.splitlines()[-1]


def test_a_circle_of_imports_is_named(package):
    package.write("core.maths", "from invp.core import other\n")
    package.write("core.other", "def f():\n    from invp.core.maths import formula\n")
    words = refused(package)
    assert "UserError" in words and "invp.core.maths imports invp.core.other imports invp.core.maths" in words


def test_a_module_that_is_not_there_is_named_with_who_imports_it(package):
    package.write("core.maths", "from invp.core.gone import f\n")
    assert "invp.core.maths imports invp.core.gone, which does not exist" in refused(package)


def test_packages_hold_no_code_that_no_digest_would_see():
    for path in (ROOT / "invp").rglob("__init__.py"):
        assert path.parent.name == "invp" or not path.read_text(), path


def test_every_template_is_in_the_digest_of_a_page():
    from invp.plumbing.provenance import TEMPLATES, _templates, modules_of

    pages = modules_of([f"invp.steps.{name}" for name in ("explorer", "summary", "report")])
    files = {path for path in TEMPLATES.rglob("*") if path.is_file()}
    # The page over all studies is no rule's: every run writes it anew.
    assert {path for module in pages for path in _templates(module)} == files - {TEMPLATES / "index.html"}


def test_what_is_loaded_by_name_is_said_by_the_step():
    """A call of load_plugin or import_module in code that counts hides a module from the digest, unless `loads` names it."""
    from invp.plumbing.provenance import counted, modules_of, step_modules

    texts = {module: ROOT.joinpath(*module.split(".")).with_suffix(".py") for module in MODULES if counted(module)}
    hidden = {m for m, file in texts.items() if file.exists() and re.search(r"(load_plugin|import_module)\(", file.read_text())}
    steps = {
        f"invp.steps.{name}" for name in ("prepare", "pretrain", "graph", "evaluate", "_evaluation", "_features_inputs", "figure")
    }
    others = {"invp.models.libraries"}  # modules of torchvision and timm, whose versions a record names
    assert hidden == {*steps, *others, "invp.training.objective", "invp.datasets.corrupted", "invp.datasets.held_out"}
    sections = {
        "prepare": {"dataset": {"name": "digits"}},
        "pretrain": {"objective": {"name": "moco"}},
        "graph": {"objective": {"name": "invp"}},
        "figure": {"figure": {"name": "positives"}},
        "evaluate": {"evaluation": {"name": "transfer"}},
        "evaluate_part": {"evaluation": {"name": "detection"}},
    }
    loaded = {step: modules_of(step_modules(step, section)) for step, section in sections.items()}
    assert "invp.datasets.digits" in loaded["prepare"] and "invp.objectives.moco" in loaded["pretrain"]
    noisy = {"dataset": {"name": "corrupted", "of": {"name": "corrupted", "of": {"name": "scenes"}}}}
    assert {"invp.datasets.corrupted", "invp.datasets.scenes"} <= set(modules_of(step_modules("prepare", noisy)))
    assert "invp.objectives.invp" in loaded["graph"]
    assert "invp.training.loop" in loaded["pretrain"] and "invp.figures.positives" in loaded["figure"]
    assert not any(module.startswith(("invp.models", "invp.training", "invp.objectives")) for module in loaded["figure"])
    shown = {"figure": {"name": "reconstructions"}, "objective": {"name": "autoencoder"}}
    modules = set(modules_of(step_modules("figure", shown)))
    assert {
        "invp.figures.reconstructions",
        "invp.objectives.autoencoder",
        "invp.training.objective",
        "invp.models.decoders",
    } <= modules
    assert "invp.training.loop" not in modules  # an edit of the loop trains again, and so draws again where a weight changed
    assert {"invp.evals.transfer", "invp.steps._encoder_inputs"} <= set(loaded["evaluate"])
    assert {"invp.evals.detection", "invp.steps._encoder_inputs"} <= set(loaded["evaluate_part"])


def test_a_known_source_has_its_digest_under_every_python(package):
    package.write("core.sample", SAMPLE)
    for python in (sys.executable, *pythons()):
        assert digests(package.folder, ["invp.core.sample"], python)["invp.core.sample"] == SAMPLE_DIGEST, python


def test_all_modules_have_the_same_digests_under_every_python():
    here = digests(ROOT, MODULES)
    assert len(set(here.values())) > 100
    for python in pythons():
        assert digests(ROOT, MODULES, python) == here, python
