"""Pages from templates: the markup lies in `templates`, and Python gives it plain values."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from invp.plumbing.files import atomic_path

TEMPLATES = Path(__file__).parent / "templates"
ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)


def template(name: str) -> str:
    """The text of a file in `templates`; whoever names one has it in the digest of its code."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


def render(name: str, **values: object) -> str:
    """A template of `templates` filled in; a value that is missing is an error.

    Text is escaped, and `Markup` is taken as the HTML that it is.
    """
    return ENVIRONMENT.get_template(name).render(**values)


def write_page(path: Path, name: str, **values: object) -> None:
    """Writes a page, atomically: the template of that name filled in."""
    with atomic_path(path) as temporary:
        temporary.write_text(render(name, **values), encoding="utf-8")
