"""Checks that an objective makes when it is built, of its options against the data and of what is installed; and what many say alike."""

import importlib.util
from typing import Any

from invp.plumbing.encoder_options import VITS
from invp.plumbing.errors import UserError


def require(condition: bool, config: Any, key: str, what: str) -> None:
    """Raises a UserError unless the condition holds; it says that `config`'s `key` must be `what`."""
    if not condition:
        raise UserError(f"objective: {key} must be {what}, and is {getattr(config, key)!r}")


def require_patches(experiment: dict) -> None:
    """Raises a UserError unless the experiment's encoder is a transformer, which sees an image as patches."""
    if (name := experiment["encoder"].get("name")) not in VITS:
        raise UserError(f"encoder.name is {name!r}, of which the objective asks for patches; valid: {', '.join(VITS)}")


def require_faiss() -> None:
    """Raises a UserError that says how to install faiss, if it is not installed."""
    if importlib.util.find_spec("faiss") is None:
        raise UserError("objective: this one clusters with faiss, which is not installed: pip install faiss-gpu (or faiss-cpu)")


def steady_within_an_epoch(config: Any, epoch: int) -> tuple:
    """What of an epoch the operations of its steps depend on, of an objective that draws by the epoch: all of it."""
    return (epoch,)
