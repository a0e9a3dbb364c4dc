"""Memory: features are read by column and by block, with the numbers of the whole; and what a process may not take is refused at once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import faiss
import numpy as np
import pyarrow as pa
import pytest
import torch

from benchmarks import memory as benchmark
from invp.core.metrics import weighted_votes
from invp.data.tables import Rows, fixed_size_list, unit_rows
from invp.evals import knn, linear
from invp.evals._inputs import FeatureInputs, FeatureTable
from invp.figures import _embeddings
from invp.plumbing import memory
from invp.plumbing.config import instance, plugin_options
from invp.plumbing.errors import AGAIN, UserError
from invp.plumbing.files import write_json, write_tables
from invp.plumbing.plugins import load_plugin, plugin_names

ROOT = Path(__file__).resolve().parents[1]
OF_FEATURES = [name for name in plugin_names("evals") if load_plugin("evals", name).NEEDS == "features"]
CLASSES = 5


def written(folder: Path, sizes: dict[str, int], width: int, batch: int = 256) -> Path:
    """Features tables of splits of so many images, in batches as the step writes them, and manifests with the classes."""
    for split, rows in sizes.items():
        generator = np.random.default_rng(rows)

        def batches(rows=rows, generator=generator):
            for start in range(0, rows, batch):
                index = np.arange(start, min(start + batch, rows))
                feature, embedding = (generator.standard_normal((len(index), numbers), np.float32) for numbers in (width, 8))
                feature[:, :CLASSES] += 3 * (index[:, None] % CLASSES == np.arange(CLASSES))
                embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
                columns = {"index": index, "label": pa.array(index % CLASSES, pa.int32())}
                yield pa.table({**columns, "feature": fixed_size_list(feature), "embedding": fixed_size_list(embedding)})

        write_tables(folder / f"{split}.arrow", batches())
        write_json(folder / split / "manifest.json", {"classes": [f"class {n}" for n in range(CLASSES)]})
    return folder


def section_of(name: str, **options) -> dict:
    """What the step evaluate sees."""
    words = ("experiment", "evaluation_name", "dataset", "pretraining_dataset", "objective", "encoder_name", "head_kind")
    own = plugin_options("evals", {"name": name, **options}, "test")
    return {**dict.fromkeys(words, "x"), "given_weights": "", "epochs": 1, "seed": 0, "stage": 1, "evaluation": own}


def files_of(folder: Path) -> list[str]:
    tables = [f"{split}={folder / f'{split}.arrow'}" for split in ("train", "test")]
    return [*tables, *(f"{split}_data={folder / split / 'manifest.json'}" for split in ("train", "test"))]


def test_rows_of_a_file_are_those_of_the_whole_column(tmp_path):
    written(tmp_path, {"train": 300}, 7, batch=64)
    rows = Rows(tmp_path / "train.arrow", "feature")
    whole = np.asarray(rows)
    assert whole.shape == rows.shape == (300, 7) and whole.dtype == np.float32 and np.ptp(whole) > 1
    for part in (slice(0, 64), slice(60, 200), slice(299, 900), slice(10, 10), slice(-3, None), slice(None)):
        assert (rows[part] == whole[part]).all() and rows[part].shape == whole[part].shape
    assert (Rows(tmp_path / "train.arrow", "embedding")[3:5] != whole[3:5, :1]).all()
    lengths = np.linalg.norm(whole.astype(np.float64), axis=1, keepdims=True)
    assert (unit_rows(rows, np.float64) == whole / lengths).all()


@pytest.mark.parametrize("name", OF_FEATURES)
def test_an_evaluation_of_blocks_of_a_file_equals_that_of_arrays(name, tmp_path, monkeypatch):
    """To the bit."""
    written(tmp_path, {"train": 3000, "test": 300}, 16)
    tables = {s: [Rows(tmp_path / f"{s}.arrow", column) for column in ("feature", "embedding")] for s in ("train", "test")}
    labels = {s: np.arange(len(own[0])) % CLASSES for s, own in tables.items()}
    options = {"linear": {"epochs": 2}, "svm": {"costs": [0.1], "iterations": 50}, "knn": {"k": [200, 20]}}.get(name, {})
    plugin = load_plugin("evals", name)
    config = instance(plugin.Config, plugin_options("evals", {"name": name, "features": "feature", **options}, "test"))

    def found(read) -> str:
        parts = [FeatureTable(*map(read, tables[s]), labels[s], np.arange(len(labels[s]))) for s in ("train", "test")]
        return json.dumps(
            plugin.evaluate(config, FeatureInputs(*parts, [f"class {n}" for n in range(CLASSES)]), seed=0, device="cpu")
        )

    whole = found(np.asarray)
    monkeypatch.setattr(knn, "SEARCHED", 1024)
    monkeypatch.setattr(knn, "VOTING", 70)
    monkeypatch.setattr(linear, "VALIDATED", 70)
    assert found(lambda rows: rows) == whole


@pytest.mark.parametrize("k", [20, 200])  # faiss keeps the nearest in a heap, and from 100 on in a reservoir
def test_a_search_in_blocks_is_faiss_search_of_all(k, monkeypatch):
    generator = np.random.default_rng(0)
    train, test = (generator.standard_normal((count, 24), np.float32) for count in (5000, 300))
    monkeypatch.setattr(knn, "SEARCHED", 1024)
    similarities, numbers = knn.nearest(train, test, k)
    index = faiss.IndexFlatIP(24)
    index.add(knn.unit(train))
    expected = index.search(knn.unit(test), k)
    assert (similarities == expected[0]).all() and (numbers == expected[1]).all()


def test_heads_trained_on_some_rows_are_those_of_a_copy_of_them():
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(90, 6, generator=generator), torch.randint(0, 3, (90,), generator=generator)
    images, schedule = torch.randperm(90, generator=generator)[:70], {"epochs": 3, "batch_size": 16, "seed": 1}
    grid = [(0.1, 0.0), (1.0, 1e-3)]
    own = linear.train_heads(features, labels, 3, grid, **schedule, images=images)
    copied = linear.train_heads(features[images], labels[images], 3, grid, **schedule)
    assert all((one == other).all() for one, other in zip(own, copied, strict=True))


@pytest.mark.parametrize("k", [1, 30, 400])
def test_the_answers_of_figures_are_those_of_a_full_stable_sort(k, monkeypatch):
    """Rows of small whole numbers: sums are exact, and most similarities are equal to many others."""
    generator = np.random.default_rng(0)
    train, test = (generator.integers(-1, 2, (count, 5)).astype(np.float32) for count in (300, 40))
    labels = generator.integers(0, 4, 300)
    monkeypatch.setattr(_embeddings, "SEARCHED", 64)
    monkeypatch.setattr(_embeddings, "VOTING", 7)
    answers, nearest, near = _embeddings.weighted_answers(train, labels, test, k, 0.5)
    similarities = test @ train.T
    order = np.argsort(-similarities, 1, kind="stable")[:, :k]
    assert (nearest == order).all() and (near == np.take_along_axis(similarities, order, 1)).all()
    assert (answers == weighted_votes(near, labels[order], 0.5, 4).argmax(1)).all()


LIMITED = """
import argparse, json, resource, sys
from pathlib import Path
import faiss, numpy as np, pyarrow as pa, torch
from invp.plumbing.jobs import Job
from invp.plumbing.plugins import load_plugin
from invp.steps import evaluate
section, folder, allowed, searched = json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
load_plugin("evals", section["evaluation"]["name"]).SEARCHED = searched
inputs = {key: [Path(path)] for key, path in (each.split("=") for each in sys.argv[5:])}
some = np.zeros((600, 600), np.float32)  # each library makes its threads and buffers at its first product
faiss.knn(some, some, 1), torch.from_numpy(some) @ torch.from_numpy(some), some @ some
pa.ipc.open_file(pa.OSFile(str(inputs["train"][0]))).get_batch(0)
has = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_DATA, (has + allowed, has + allowed))
arguments = argparse.Namespace(scratch=None)
evaluate.run(Job("evaluate", section, inputs, {"metrics": folder / "metrics.json"}, "no code", arguments))
"""


def limited(name: str, folder: Path, allowed: float, searched: int, **options) -> subprocess.CompletedProcess:
    """An evaluation of all of `feature` in a process that may take so many bytes beyond what its libraries have."""
    section = json.dumps(section_of(name, features="feature", **options))
    command = [sys.executable, "-c", LIMITED, section, str(folder), str(int(allowed)), str(searched), *files_of(folder)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


SOME = {"knn": {}, "linear": {"epochs": 1, "learning_rates": [0.1], "weight_decays": [0.0]}}


def assert_within_limits(folder: Path, images: int, width: int, searched: int) -> None:
    """knn takes no more than the training features have bytes; linear less than twice as much, and says so if it may not."""
    size = 4 * images * width
    for name, share in (("knn", 1.0), ("linear", 1.7)):
        done = limited(name, folder, share * size, searched, **SOME[name])
        assert done.returncode == 0, done.stderr
        assert json.loads((folder / "metrics.json").read_text())["metrics"]["top1"] > 50
    refused = limited("linear", folder, 0.9 * size, searched, **SOME["linear"]).stderr
    assert f"for {images:,} training and 1,000 test images of {width:,} numbers, and may take" in refused
    assert refused.strip().endswith(AGAIN) and "(ulimit -d): raise mem_mb of `evaluate`" in refused


def test_evaluations_within_a_limit(tmp_path):
    assert_within_limits(written(tmp_path, {"train": 40_000, "test": 1000}, 1024), 40_000, 1024, 8192)


@pytest.mark.slow
def test_evaluations_within_a_limit_at_a_tenth_of_imagenet(tmp_path):
    assert_within_limits(written(tmp_path, {"train": 128_116, "test": 1000}, 2048), 128_116, 2048, knn.SEARCHED)


def test_a_refused_job_fails_so_that_it_is_tried_again_with_more(tmp_path, run_invp):
    """Also where mistakes are reported, and not tried again."""
    written(tmp_path, {"train": 50, "test": 20}, 6)
    section, log = json.dumps(section_of("knn")), tmp_path / "a.log"
    outputs = [f"metrics={tmp_path / 'metrics.json'}", f"record={tmp_path / 'record.json'}"]
    command = ["evaluate", "--section", section, "--input", *files_of(tmp_path), "--output", *outputs, "--keep-log", log]
    few = run_invp(*command, "--attempt", 1, env={"SLURM_MEM_PER_NODE": "1", "INVP_ON_ERROR": "report"})
    assert few.returncode == 2 and few.stderr.startswith("error: this job needs about 0 MB for 50 training and 20 test images")
    assert "what its SLURM job asked for" in few.stderr and few.stderr.strip().endswith(AGAIN)
    (tmp_path / "a.log.try-1").write_text(few.stderr)
    more = run_invp(*command, "--attempt", 2, env={"SLURM_MEM_PER_NODE": "4000", "INVP_ON_ERROR": "report"})
    assert more.returncode == 0 and "top1" in json.loads((tmp_path / "metrics.json").read_text())["metrics"], more.stderr


@pytest.mark.parametrize(("line", "file"), [("4:memory:/job/step", "memory.limit_in_bytes"), ("0::/job/step", "memory.max")])
def test_the_limits_of_cgroups(line, file, tmp_path):
    """Of version 1 and 2, of the process's own and of those around it, of which not all may be seen."""
    mount = tmp_path / "fs" / ("memory" if "memory:" in line else "")
    (mount / "job/step").mkdir(parents=True)
    (mount / file).write_text("max\n")
    (mount / "job" / file).write_text("3000000000\n")
    (tmp_path / "cgroup").write_text(f"9:name=systemd:/\n3:cpuset:/job\n{line}\n")
    assert list(memory._cgroups(tmp_path / "cgroup", tmp_path / "fs")) == [3_000_000_000]
    assert list(memory._cgroups(tmp_path / "none", tmp_path / "fs")) == []


def test_what_slurm_was_asked_for_is_a_limit_and_all_of_a_node_is_none(monkeypatch):
    free = memory.left()
    assert free[0] > 0
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "0")
    assert memory.left()[1] == free[1]
    monkeypatch.setenv("SLURM_MEM_PER_CPU", "1000")
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", "2")
    allowed, why = memory.left()
    assert why == "what its SLURM job asked for" and 0 < allowed < 2000 << 20
    memory.require(allowed // 2, "nothing", "graph")
    with pytest.raises(
        UserError, match=r"needs about 23.0 GB for 5 images, and may take [\d.]+ [GM]B .* mem_mb of `graph` .* then start again$"
    ):
        memory.require(23 * 10**9, "5 images", "graph")


@pytest.mark.parametrize("name", ["knn", "graph"])
def test_the_benchmark_does_the_jobs_as_they_are_now(name, tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "TEST", 30)
    benchmark.prepare(tmp_path, 300, 8)
    benchmark.run(name, tmp_path)
    assert list(tmp_path.rglob("metrics.json" if name == "knn" else "knn.arrow"))
