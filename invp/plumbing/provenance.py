"""What a result depends on: the digest of the code behind a step, and the versions of the libraries.

A digest is of a module's syntax, without comments, docstrings and formatting, and of the digests of the modules of the package that it
imports. No path is part of it, so a module may move. It is the same under every supported Python.
"""

import ast
import graphlib
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from invp.plumbing.errors import UserError
from invp.plumbing.plugins import load_plugin

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "invp" / "pages" / "templates"
# What lies here moves bytes, checks words, keeps records or looks at results: no number depends on it, so an edit reruns nothing.
UNCOUNTED = ("invp.plumbing", "invp.tools", "invp.__main__")
LIBRARIES = (
    "torch", "torchvision", "faiss-gpu", "faiss-cpu", "kornia", "numpy", "scikit-learn", "pyarrow", "pillow", "opencv-python-headless"
)  # fmt: skip
IMPORTS = (ast.Import, ast.ImportFrom)
# Fields of syntax that say nothing about what is computed, or that only some Pythons fill.
SKIPPED_FIELDS = ("ctx", "kind", "type_comment", "type_ignores")


def module_file(module: str) -> Path | None:
    """The file of a module or package of ours by its dotted name; None if there is none."""
    path = ROOT.joinpath(*module.split("."))
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in candidates if file.is_file()), None)


def counted(module: str) -> bool:
    """Whether an edit of a module can change a result: it is of the package, and neither plumbing nor a tool nor the command line."""
    inside = module == "invp" or module.startswith("invp.")
    return inside and not any(module == name or module.startswith(f"{name}.") for name in UNCOUNTED)


@cache
def _tree(module: str) -> ast.Module:
    path = module_file(module)
    assert path is not None, f"there is no module {module}"
    return ast.parse(path.read_bytes(), str(path))


def _absolute(module: str, node: ast.ImportFrom) -> str:
    """The dotted name that `from ... import` means in `module`; a relative one is resolved."""
    if not node.level:
        return node.module or ""
    path = module_file(module)
    package = module.split(".") if path is not None and path.name == "__init__.py" else module.split(".")[:-1]
    return ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])


def _imports(module: str, node: ast.AST) -> list[tuple[str, str, str]]:
    """What an import statement of `module` binds: (module, name in it or '' for the module itself, name here); [] for other syntax."""
    if isinstance(node, ast.Import):
        return [(alias.name, "", alias.asname or alias.name) for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    source = _absolute(module, node)
    bound = []
    for alias in node.names:
        inner = f"{source}.{alias.name}"
        is_module = source.split(".")[0] == "invp" and module_file(inner) is not None
        bound.append((inner, "", alias.asname or alias.name) if is_module else (source, alias.name, alias.asname or alias.name))
    return bound


def _import_lines(module: str, statements: list[ast.stmt]) -> list[str]:
    """A line for each name that consecutive imports bind, sorted: what it is, without its path, and its name here.

    A module of ours stands there by its digest. Of two imports that bind one name, the later counts, as it does in Python.
    """
    lines: dict[str, str] = {}
    for source, name, here in (bound for node in statements for bound in _imports(module, node)):
        if counted(source):
            origin = module_digest(source)
        else:
            origin = "uncounted" if source.split(".")[0] == "invp" else f"library {source}"
        lines[f"{origin} *" if name == "*" else here] = f"{origin} {name} as {here};"
    return sorted(lines.values())


def _is_text(node: ast.AST) -> bool:
    """Whether a statement is a bare string, as a docstring is: it does nothing."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _merged(values: list[ast.expr]) -> list[ast.expr]:
    """The pieces of an f-string with its plain text in as few constants as can be: Pythons differ in how they cut it."""
    merged: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and merged and isinstance(merged[-1], ast.Constant):
            merged[-1] = ast.Constant(merged[-1].value + value.value)
        elif not isinstance(value, ast.Constant) or value.value:
            merged.append(value)
    return merged


def _fields(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """The fields of a piece of syntax that say something. Empty ones are left out: newer Pythons have more of them."""
    for name, value in ast.iter_fields(node):
        if isinstance(node, ast.JoinedStr):
            value = _merged(value)
        if name == "format_spec" and isinstance(value, ast.JoinedStr) and not _merged(value.values):
            continue  # f"{x:}" is f"{x}"
        if value is not None and value != [] and name not in SKIPPED_FIELDS:
            yield name, value


def _dumped(module: str, value: Any) -> str:
    """A piece of the syntax of `module` in words. By `ascii` and not `repr`: Pythons differ in which letters they can print."""
    if isinstance(value, list):
        words: list[str] = []
        run: list[ast.stmt] = []  # consecutive imports
        for each in value:
            if isinstance(each, IMPORTS):
                run.append(each)
            elif not _is_text(each):
                words += [*_import_lines(module, run), _dumped(module, each)]
                run = []
        return f"[{''.join([*words, *_import_lines(module, run)])}]"
    if isinstance(value, ast.AST):
        fields = "".join([f"{name}={_dumped(module, inner)}" for name, inner in _fields(value)])
        return f"{type(value).__name__}({fields})"
    return f"{value!a},"


def _templates(module: str) -> list[Path]:
    """The page templates that a module names in its text, and those that these name, sorted."""
    texts = {n.value for n in ast.walk(_tree(module)) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    every = {path.relative_to(TEMPLATES).as_posix(): path for path in TEMPLATES.rglob("*") if path.is_file()}
    named: set[str] = set()
    queue = [name for name in every if name in texts]
    while queue:
        name = queue.pop()
        if name not in named:
            named.add(name)
            content = every[name].read_text(encoding="utf-8")
            queue += [other for other in every if f'"{other}"' in content or f"'{other}'" in content]
    return [every[name] for name in sorted(named)]


@cache
def module_digest(module: str) -> str:
    """The digest of a module of the package and of what it imports, 64 hexadecimal digits; UserError if imports go round in a circle."""
    _refuse_circle(module)
    pieces = [_dumped(module, _tree(module))]
    pieces += [hashlib.sha256(path.read_bytes()).hexdigest() for path in _templates(module)]
    return hashlib.sha256("\n".join(pieces).encode()).hexdigest()


def _refuse_circle(module: str) -> None:
    try:
        graphlib.TopologicalSorter({each: imported(each) for each in modules_of([module])}).prepare()
    except graphlib.CycleError as error:
        circle = " imports ".join(reversed(error.args[1]))
        raise UserError(f"{circle}: without an end to it, no digest of their code can be made") from None


@cache
def imported(module: str) -> tuple[str, ...]:
    """The modules of the package that a module imports anywhere in it, sorted, without those that count for nothing.

    UserError if there is no such module.
    """
    sources = (source for node in ast.walk(_tree(module)) for source, _, _ in _imports(module, node))
    found = tuple(sorted({source for source in sources if counted(source)}))
    if missing := [source for source in found if module_file(source) is None]:
        raise UserError(f"{module} imports {missing[0]}, which does not exist")
    return found


def modules_of(roots: list[str]) -> list[str]:
    """The modules of the package that `roots` import, directly or not, with the roots, without those that count for nothing; sorted."""
    reached: set[str] = set()
    queue = list(roots)
    while queue:
        module = queue.pop()
        if module not in reached:
            reached.add(module)
            queue.extend(imported(module))
    return sorted(reached)


def code_digest(roots: list[str]) -> str:
    """A digest of the code behind `roots`, 16 hexadecimal digits; comments, docstrings, formatting and a move do not change it."""
    return hashlib.sha256("\n".join(sorted(map(module_digest, roots))).encode()).hexdigest()[:16]


def step_modules(step: str, section: dict) -> list[str]:
    """The modules where the code of a step begins: the step's own, and those that it loads by name, as its plug-in."""
    module = load_plugin("steps", step)
    return [f"invp.steps.{step}", *(module.loads(section) if hasattr(module, "loads") else [])]


@cache
def versions() -> dict[str, str]:
    """The versions of Python and of the installed libraries that can change a number."""
    installed = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            installed[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
