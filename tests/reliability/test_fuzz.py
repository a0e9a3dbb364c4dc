"""Mutated files and configurations: a clear error or a right result; never a crash, a hang, unbounded memory or foreign code."""

import json
import os
import pickle
import random
import resource
import shutil
from pathlib import Path

import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invp.data.shards import Shards
from invp.models.weights import read_state
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load
from invp.plumbing.files import read_table, write_table
from invp.training.checkpoint import load_checkpoint
from invp.training.encoder import load_encoder

ROOT = Path(__file__).resolve().parents[2]
QUICK = settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    derandomize=True,
)


def mutated(content: bytes, seed: int) -> bytes:
    """The bytes cut short, or with some bytes, or a whole piece, replaced, removed or doubled."""
    draw, result = random.Random(seed), bytearray(content)
    kind = seed % 4
    if kind == 0:
        return bytes(result[: draw.randrange(len(result))])
    if kind == 1:
        for _ in range(draw.randint(1, 8)):
            result[draw.randrange(len(result))] = draw.randrange(256)
        return bytes(result)
    start = draw.randrange(len(result))
    piece = result[start : start + draw.randint(1, 200)]
    result[start : start + len(piece)] = b"" if kind == 2 else piece + piece
    return bytes(result)


@pytest.mark.parametrize("block", range(4))
def test_mutated_checkpoints_are_refused_or_right(block, tmp_path):
    state = {"objective": {"bank": torch.randn(64, 8)}, "epoch": 3, "section": "{}", "rows": [{"loss": 1.0}]}
    path = tmp_path / "checkpoint.pt"
    torch.save(state, path)
    content = path.read_bytes()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in range(100 * block, 100 * block + 100):
        path.write_bytes(mutated(content, seed))
        try:
            found = load_checkpoint(path)
        except UserError as error:
            assert str(path) in str(error)
        else:
            assert isinstance(found, dict)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 20  # KiB: no mutated size makes it ask for more


class Malice:
    def __reduce__(self):
        return (os.system, ("touch executed",))


@pytest.mark.parametrize("write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_a_strangers_checkpoint_executes_nothing(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "checkpoint.pt"
    write({"objective": Malice()}, path)
    for read in (load_checkpoint, load_encoder, read_state):
        with pytest.raises(UserError, match="checkpoint.pt .*refused|checkpoint.pt is damaged, or no file of tensors") as caught:
            read(path)
        assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_nothing_else_in_the_package_unpickles():
    words = {p: p.read_text() for p in (ROOT / "invp").rglob("*.py")}
    for path, text in words.items():
        assert "pickle.load" not in text and "allow_pickle=True" not in text and "weights_only=False" not in text, path
        assert text.count("torch.load(") == text.count("weights_only=True"), path


@pytest.mark.parametrize("block", range(4))
def test_mutated_graphs_are_refused_or_tables(block, tmp_path):
    path = tmp_path / "knn.arrow"
    neighbours = pa.FixedSizeListArray.from_arrays(pa.array(list(range(200))), 4)
    write_table(path, pa.table({"index": list(range(50)), "neighbours": neighbours}), {"seed": 0})
    content = path.read_bytes()
    for seed in range(100 * block, 100 * block + 100):
        path.write_bytes(mutated(content, seed))
        try:
            table = read_table(path)
        except UserError as error:
            assert str(path) in str(error)
        else:
            assert table.num_rows <= 10_000


@pytest.mark.parametrize("seed", range(24))
def test_mutated_shards_and_manifests_are_refused_or_whole(seed, digits, tmp_path):
    folder = tmp_path / "train"
    shutil.copytree(digits["train"], folder)
    target = folder / ("manifest.json" if seed % 2 else "shards/shard-00000.arrow")
    changed = mutated(target.read_bytes(), seed // 2)
    same = changed == target.read_bytes()
    target.write_bytes(changed)
    try:
        shards = Shards(folder)
        images = shards.images(torch.arange(shards.num_samples))
    except UserError as error:
        assert str(folder) in str(error)
    else:
        assert same or seed % 2, "an altered shard was taken for whole"
        assert len(images) == shards.num_samples == len(shards.labels)


MANIFEST_KEYS = ("num_samples", "format", "shape", "classes", "shards", "dataset")
JSON = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=3)


@QUICK
@given(key=st.sampled_from(MANIFEST_KEYS), value=JSON)
def test_a_manifest_with_any_value_is_refused_or_read(key, value, digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifest")
    os.symlink(digits["train"] / "shards", folder / "shards")
    manifest = json.loads((digits["train"] / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps({**manifest, key: value}))
    try:
        shards = Shards(folder)
    except UserError as error:
        assert "manifest" in str(error) or str(folder) in str(error)
    else:
        assert len(shards.labels) == 1437


SECTIONS = ("dataset", "encoder", "head", "objective", "training", "augmentation", "graph", "evaluations", "figures", "stages")


@QUICK
@given(section=st.sampled_from(SECTIONS), key=st.text("abcdefgh_", min_size=1, max_size=8), value=JSON, whole=st.booleans())
def test_any_configuration_is_loaded_or_explained(section, key, value, whole, tmp_path_factory):
    folder = tmp_path_factory.mktemp("experiments")
    for path in (ROOT / "config/experiments").glob("digits-invp.yaml"):
        shutil.copy(path, folder)
    content = {"extends": "digits-invp", section: value if whole else {key: value}}
    (folder / "random.yaml").write_text(json.dumps(content))
    try:
        loaded = load(folder / "random.yaml")
    except UserError as error:
        assert "random.yaml" in str(error)
    else:
        assert loaded["name"] == "random"
