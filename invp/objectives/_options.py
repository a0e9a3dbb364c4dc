"""Checks of objectives' options, with errors that name the key."""

import importlib.util
from typing import Any

from invp.plumbing.errors import UserError


def require(condition: bool, config: Any, key: str, what: str) -> None:
    """Raises a UserError that says what `config`'s key must be, unless the condition holds."""
    if not condition:
        raise UserError(f"objective: {key} must be {what}, and is {getattr(config, key)!r}")


def require_faiss() -> None:
    """Raises a UserError that says how to install faiss, if it is missing."""
    if importlib.util.find_spec("faiss") is None:
        raise UserError("objective: this one clusters with faiss, which is not installed: pip install 'invp[graph]'")
