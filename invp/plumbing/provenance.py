"""What a result depends on: the digest of the code behind a step, and the versions of the libraries.

A digest is of a module's syntax, without comments, docstrings and formatting, and of the digests of the modules of the package that it
imports: no path is part of it, so a module may move. It is the same under every supported Python.
"""

import ast
import hashlib
import importlib.metadata
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from invp.plumbing.plugins import load_plugin

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "invp" / "pages" / "templates"
# What lies here moves bytes, checks words, keeps records or looks at results: no number depends on it, so an edit reruns nothing.
UNCOUNTED = ("invp.plumbing", "invp.tools")
LIBRARIES = ("torch", "torchvision", "faiss-gpu", "faiss-cpu", "kornia", "numpy", "scikit-learn", "pyarrow", "pillow")
DEFINITIONS = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


def _module_file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir():
        return path / "__init__.py"
    path = path.with_suffix(".py")
    return path if path.exists() else None


def counted(module: str) -> bool:
    """Whether an edit of a module of the package can change a result; the package's own `__init__` and `__main__` cannot."""
    return module.startswith("invp.") and module != "invp.__main__" and not module.startswith(UNCOUNTED)


@cache
def _tree(module: str) -> ast.Module:
    path = _module_file(module)
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def _imports(node: ast.AST) -> list[tuple[str, str, str]]:
    """What a statement imports from the package: (module, name in it or '' for the module itself, name here)."""
    found = []
    if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "invp":
        for alias in node.names:
            here = alias.asname or alias.name
            if _module_file(inner := f"{node.module}.{alias.name}"):
                found.append((inner, "", here))
            else:
                found.append((node.module, alias.name, here))
    elif isinstance(node, ast.Import):
        found += [(alias.name, "", alias.asname or alias.name) for alias in node.names if alias.name.split(".")[0] == "invp"]
    return found


def _without_docstring(node: ast.AST) -> list[ast.stmt]:
    first = node.body[0] if node.body else None
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return node.body[1:] if is_text else node.body


def _merged(values: list[ast.expr]) -> list[ast.expr]:
    """The pieces of an f-string with its plain text in as few constants as can be: Pythons differ in how they cut it."""
    merged: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and merged and isinstance(merged[-1], ast.Constant):
            merged[-1] = ast.Constant(merged[-1].value + value.value)
        elif not isinstance(value, ast.Constant) or value.value:
            merged.append(value)
    return merged


def _dumped(value: Any) -> Iterator[str]:
    """The words of a piece of syntax. Fields that are empty or None are left out, so that a Python with more fields says the same."""
    if isinstance(value, list):
        yield "["
        imports = sorted(line for node in value if isinstance(node, ast.stmt) for line in _dumped_imports(node))
        yield from imports
        for each in value:
            if not (isinstance(each, ast.stmt) and _imports(each)):
                yield from _dumped(each)
        yield "]"
    elif isinstance(value, ast.AST):
        yield f"{type(value).__name__}("
        for name, inner in ast.iter_fields(value):
            if name == "body" and isinstance(value, DEFINITIONS):
                inner = _without_docstring(value)
            elif isinstance(value, ast.JoinedStr):
                inner = _merged(inner)
            if inner is not None and inner != [] and name not in ("ctx", "kind", "type_comment"):
                yield f"{name}="
                yield from _dumped(inner)
        yield ")"
    else:
        yield f"{value!r},"


def _dumped_imports(node: ast.stmt) -> list[str]:
    return [f"{_digest(module) if counted(module) else 'uncounted'} {name} {here};" for module, name, here in _imports(node)]


def _templates(module: str) -> list[Path]:
    """The page templates that a module names in its text, and those that they name, sorted."""
    texts = [n.value for n in ast.walk(_tree(module)) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    every = {path.name: path for path in TEMPLATES.glob("*")}
    found: set[str] = set()
    queue = [name for name in every if name in texts]
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            content = every[name].read_text(encoding="utf-8")
            queue += [other for other in every if f'"{other}"' in content or f"'{other}'" in content]
    return [every[name] for name in sorted(found)]


@cache
def _digest(module: str) -> str:
    parts = ["".join(_dumped(_tree(module)))]
    parts += [hashlib.sha256(path.read_bytes()).hexdigest() for path in _templates(module)]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def imported(module: str) -> list[str]:
    """The modules of the package that a module imports anywhere in it, sorted, without those that count for nothing."""
    return sorted({name for node in ast.walk(_tree(module)) for name, _, _ in _imports(node) if counted(name)})


def modules_of(roots: list[str]) -> list[str]:
    """The modules of the package that `roots` import, directly or not, with the roots, without those that count for nothing; sorted."""
    found: set[str] = set()
    queue = list(roots)
    while queue:
        module = queue.pop()
        if module not in found:
            found.add(module)
            queue.extend(imported(module))
    return sorted(found)


def code_digest(roots: list[str]) -> str:
    """A digest of the code behind `roots`, 16 hexadecimal digits; comments, docstrings, formatting and a move do not change it."""
    return hashlib.sha256("\n".join(sorted(map(_digest, roots))).encode()).hexdigest()[:16]


def step_modules(step: str, section: dict) -> list[str]:
    """The modules where the code of a step begins: the step's own, and those that it loads by name, as its plug-in."""
    module = load_plugin("steps", step)
    return [f"invp.steps.{step}", *(module.loads(section) if hasattr(module, "loads") else [])]


@cache
def versions() -> dict[str, str]:
    """The versions of Python and of the installed libraries that can change a number."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
