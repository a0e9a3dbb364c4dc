"""What a result depends on: code digests, and the record that lies beside every artifact."""

import ast
import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

from invp.errors import UserError
from invp.files import canonical_json, read_json, sha256_of, write_json

ROOT = Path(__file__).resolve().parent.parent
# What these do is move bytes, check words and keep records: no number depends on them, so an edit reruns nothing.
PLUMBING = frozenset(
    {"invp", "invp.errors", "invp.files", "invp.plugins", "invp.provenance", "invp.progress", "invp.config", "invp.launch"}
)
LIBRARIES = ("torch", "torchvision", "faiss-gpu", "faiss-cpu", "kornia", "numpy", "scikit-learn", "pyarrow", "pillow")


def _module_file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    if path.is_dir():
        return path / "__init__.py"
    path = path.with_suffix(".py")
    return path if path.exists() else None


class _WithoutDocstrings(ast.NodeTransformer):
    def _strip(self, node):
        self.generic_visit(node)
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            node.body = node.body[1:] or [ast.Pass()]
        return node

    visit_Module = visit_ClassDef = visit_FunctionDef = visit_AsyncFunctionDef = _strip


@cache
def _parsed(module: str) -> tuple[str, tuple[str, ...]]:
    """The digest of a module's abstract syntax, and the modules of the package that it imports anywhere in it."""
    path = _module_file(module)
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module)
            imported.update(f"{node.module}.{alias.name}" for alias in node.names)
    inside = sorted(name for name in imported if name.split(".")[0] == "invp" and _module_file(name))
    text = ast.dump(_WithoutDocstrings().visit(tree))
    return hashlib.sha256(text.encode()).hexdigest(), tuple(inside)


def modules_of(roots: list[str]) -> list[str]:
    """The modules of the package that `roots` import, directly or not, with the roots, without the plumbing; sorted."""
    found: set[str] = set()
    queue = list(roots)
    while queue:
        module = queue.pop()
        if module not in found and module not in PLUMBING:
            found.add(module)
            queue.extend(_parsed(module)[1])
    return sorted(found)


def code_digest(roots: list[str]) -> str:
    """A digest of the code behind `roots` that comments, docstrings and formatting do not change."""
    lines = [f"{module} {_parsed(module)[0]}" for module in modules_of(roots)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def step_modules(step: str, section: dict) -> list[str]:
    """The modules where the code of a step begins: the step's own and its plug-in's."""
    plugins = {
        "prepare": ("datasets", "dataset"),
        "pretrain": ("objectives", "objective"),
        "evaluate": ("evals", "evaluation"),
        "figure": ("figures", "figure"),
    }
    roots = [f"invp.{step}"]
    if step in plugins:
        kind, key = plugins[step]
        roots.append(f"invp.{kind}.{section[key]['name']}")
    return roots


def versions() -> dict[str, str]:
    """The versions of Python and of the installed libraries that can change a number."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def device_name() -> str:
    """The accelerator's name if torch is loaded and sees one, else the processor's."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.machine()


def embedded(step: str, section: dict, code: str) -> dict:
    """The part of a record that goes inside an artifact: it is equal for equal runs."""
    return {"step": step, "section": section, "code": code, "versions": versions()}


def write_record(path: Path, step: str, section: dict, code: str, inputs: dict, outputs: dict, started: float) -> None:
    """Writes the record of one job: section, code, commit, versions, device, duration, command, and SHA-256 of every file.

    `inputs` and `outputs` map names to paths; `started` is `time.time()` at the job's start. Paths are kept relative to the
    working folder, so that a copied results folder verifies elsewhere.
    """
    status = _git("status", "--porcelain", "--untracked-files=no")
    write_json(
        path,
        {
            "step": step,
            "section": section,
            "code": code,
            "commit": _git("rev-parse", "HEAD"),
            "clean": None if status is None else status == "",
            "versions": versions(),
            "device": device_name(),
            "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
            "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "seconds": round(time.time() - started, 3),
            "peak_memory_mb": peak_memory_mb(),
            "command": shlex.join(["python", "-m", "invp", *sys.argv[1:]]),
            "inputs": {name: _file(path) for name, path in inputs.items()},
            "outputs": {name: _file(path) for name, path in outputs.items()},
        },
    )


def peak_memory_mb() -> float:
    """The most memory that this process and its ended children held at once, in MiB."""
    import resource

    most = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(most / 1024, 1)


@cache
def _digest(path: Path, size: int, modified: int) -> str:
    return sha256_of(path)


def _file(path: Path) -> dict:
    path, about = Path(path), Path(path).stat()
    digest = _digest(path, about.st_size, about.st_mtime_ns)  # an input is read once for the check and the record
    return {"path": os.path.relpath(path), "bytes": about.st_size, "sha256": digest}


def check_inputs(inputs: list[tuple[str, Path]]) -> None:
    """Raises UserError for an input that is not, to the byte, what its own record says was made."""
    for _, path in inputs:
        for record in (path.with_name("record.json"), path.with_name(f"{path.stem}.record.json")):
            if not path.exists() or not record.exists():
                continue
            content = read_json(record)
            entries = content.get("outputs", {}) if isinstance(content, dict) else {}
            for entry in entries.values():
                if Path(entry["path"]).name == path.name and entry["sha256"] != _file(path)["sha256"]:
                    raise UserError(
                        f"{path} is not what {record} says was made: it was altered or cut short afterwards. Delete it and run the "
                        "workflow again"
                    )


def section_json(section: dict) -> str:
    """The section as the text that Snakemake tracks and hands to the job."""
    return canonical_json(section)
