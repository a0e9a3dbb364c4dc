"""Copies of shards on a node's disk."""

import subprocess
import sys
from pathlib import Path

import pytest

from invp.data.shards import Shards
from invp.plumbing import staging
from invp.plumbing.errors import UserError

ROOT = Path(__file__).resolve().parent.parent


def test_without_a_folder_shards_are_read_where_they_are(digits, monkeypatch):
    monkeypatch.delenv("INVP_NODE_SCRATCH", raising=False)
    assert staging.staged(digits["train"]) == digits["train"]


def test_jobs_of_a_node_share_one_whole_copy(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("NODE_DISK", str(tmp_path))
    monkeypatch.setenv("INVP_NODE_SCRATCH", "$NODE_DISK/shards")
    code = f"from pathlib import Path; from invp.plumbing.staging import staged; print(staged(Path({str(digits['train'])!r})))"
    processes = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                 for _ in range(3)]  # fmt: skip
    said = [process.communicate(timeout=60) for process in processes]
    assert len({words for words, _ in said}) == 1 and sum("copying" in errors for _, errors in said) == 1
    copy = Path(said[0][0].strip())
    assert tmp_path in copy.parents
    one, other = Shards(digits["train"]), Shards(copy)
    assert (one.labels == other.labels).all() and one.num_samples == other.num_samples


def test_a_copy_that_was_cut_off_is_made_again(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("INVP_NODE_SCRATCH", str(tmp_path))
    copy = staging.staged(digits["train"])
    (copy / "manifest.json").unlink()  # it is written last
    shard = next((copy / "shards").iterdir())
    shard.write_bytes(b"half")
    assert Shards(staging.staged(digits["train"])).num_samples == 1437


def test_no_room_is_a_clear_error(digits, tmp_path, monkeypatch):
    monkeypatch.setenv("INVP_NODE_SCRATCH", str(tmp_path))
    monkeypatch.setattr(staging, "SPARE", 1 << 60)
    with pytest.raises(UserError, match="name another folder, or unset it"):
        staging.staged(digits["train"])
