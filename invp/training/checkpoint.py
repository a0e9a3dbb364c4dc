"""Checkpoints: the only place that writes and reads them.

A checkpoint is a dict: `objective` (state of encoder, head and memory), `optimizer`, `epoch` and `step` (how far it is), `sums` and `rows`
(the curves), `section` (canonical JSON), `dataset` (`classes` and `format` of the images), `code`, `versions` and `fingerprint` (section,
code and parent, to know a foreign one by).
"""

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.models.transformers import plain_names
from invp.models.weights import read_saved
from invp.plumbing.errors import UserError
from invp.plumbing.files import atomic_path


def load_checkpoint(path: Path) -> dict:
    """A checkpoint on the CPU, without executing code in it; UserError if it is missing or damaged."""
    state = read_saved(path, ": if it is a checkpoint, delete it and run the workflow again")
    if not isinstance(state, dict) or "objective" not in state:
        raise UserError(
            f"{path} is no checkpoint of this workflow: those are results/EXPERIMENT/seed-S/pretrain/stage-E/checkpoint.pt"
        )
    return state


def save_checkpoint(state: dict, path: Path) -> None:
    """Writes a checkpoint under a temporary name and renames it; OSError if the disk is full."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # a full disk, behind torch's own words
                raise error.__context__ from None
            raise


def encoder_state(state: dict) -> dict[str, Tensor]:
    """The encoder's tensors of a checkpoint under torchvision's names, without `fc`; of a transformer under timm's."""
    return plain_names(_under("encoder.", state))


def _under(prefix: str, state: dict) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state["objective"].items() if key.startswith(prefix)}


def load_network(section: dict, checkpoint: Path) -> tuple[nn.Module, nn.Module]:
    """Encoder and head of a checkpoint, in evaluation mode on the CPU; `section` has `encoder`, `head` and `augmentation`."""
    augmentation = section["augmentation"]
    encoder = build_encoder(section["encoder"], augmentation["size"], mean=augmentation["mean"], std=augmentation["std"])
    head = build_head(section["head"], encoder.num_features)
    state = load_checkpoint(checkpoint)
    try:
        encoder.load_state_dict(_under("encoder.", state))
        head.load_state_dict(_under("head.", state))
    except (RuntimeError, KeyError) as error:
        raise UserError(f"{checkpoint} does not fit the experiment: {str(error).splitlines()[0]}") from None
    return encoder.eval(), head.eval()


def is_of(path: Path, fingerprint: str) -> bool:
    """Whether a checkpoint can be read and has this fingerprint."""
    try:
        return load_checkpoint(path).get("fingerprint") == fingerprint
    except UserError:
        return False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Holds a lock that ends with the process; waits for another process that is still at work on the same output.

    A file system without such locks, as Lustre without the option `flock`, is warned of.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            print(f"waiting for process {file.read().strip()}, which is still training this stage", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK):
                raise
            print(
                f"warning: the file system of {path} has no locks ({error.strerror}; Lustre has with the mount option flock). Start the "
                "workflow once at a time in this folder: two trainings of one stage would not see each other",
                file=sys.stderr,
                flush=True,
            )
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield
