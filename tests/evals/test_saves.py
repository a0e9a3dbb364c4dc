"""Trainings of evaluations that are stopped and go on: equal to the last bit, whatever was left of the saved state."""

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from networks import SMALL, prepared

from invp.models.encoders import build_encoder
from invp.plumbing.config import plugin_options
from invp.plumbing.files import canonical_json
from invp.plumbing.jobs import Job
from invp.plumbing.plugins import load_plugin, plugin_names
from invp.plumbing.provenance import code_digest, step_modules
from invp.steps._saves import InScratch
from invp.training.checkpoint import save_checkpoint
from tests import warm_python

ROOT = Path(__file__).resolve().parents[2]
FINE = {"name": "semi_supervised", "share": 0.2, "epochs": 30, "batch_size": 32, "drops": [20], "learning_rate": 0.01}
SCENES = {"name": "scenes", "size": 64, "train_images": 12, "test_images": 6, "num_classes": 2, "most": 2}
# Each trains for some seconds on one core.
TRAININGS = {
    "semi_supervised": FINE,
    "transfer": {
        "name": "transfer", "learning_rates": [0.1], "weight_decays": [1e-4], "steps": 90, "batch_size": 32, "metric": "mean_per_class",
    },
    "linear_blocks": {
        "name": "linear_blocks", "crops": "fresh", "epochs": 8, "drops": [5], "learning_rates": [0.1, 0.3], "weight_decays": [0.0],
    },
    "detection": {
        "name": "detection", "steps": 33, "batch_size": 4, "drops": [20], "warmup": 5, "train_sizes": [48, 64], "test_size": 64,
        "longest": 64, "anchors": [12, 18], "pooled": 4, "regions": 16, "curve": [0, 7],
    },
    "segmentation": {"name": "segmentation", "steps": 40, "batch_size": 2, "crop": 32, "width": 8, "drops": [0.5], "pictures": 1},
}  # fmt: skip


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    return prepared(SCENES, tmp_path_factory.mktemp("scenes"))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("network") / "checkpoint.pt"
    save_checkpoint({"objective": {f"encoder.{key}": value for key, value in build_encoder(SMALL, 8).state_dict().items()}}, path)
    return path


def section_of(options: dict, seed: int = 0) -> dict:
    """The section of an evaluation; the options of the network are those of `checkpoint`."""
    checked = plugin_options("evals", options, "test")
    return {
        "experiment": "e", "evaluation_name": "it", "evaluation": checked, "dataset": "d", "pretraining_dataset": "d", "objective": "none",
        "given_weights": "", "epochs": None, "seed": seed, "stage": 0, "encoder_name": "resnet_small", "head_kind": "none",
        "encoder": SMALL, "head": {"kind": "none", "dimensions": 1},
        "augmentation": {"size": 8, "mean": [0.3] * 3, "std": [0.4] * 3},
    }  # fmt: skip


class Evaluation:
    """`python -m invp evaluate` of one section, on one set and network, into one folder."""

    def __init__(self, section: dict, data: dict[str, Path], checkpoint: Path, folder: Path):
        self.folder, self.scratch = folder, folder / "scratch"
        inputs = [f"checkpoint={checkpoint}", *(f"{split}_data={path}/manifest.json" for split, path in data.items())]
        code = code_digest(step_modules("evaluate", section))
        self.command = [
            "invp", "evaluate", "--section", canonical_json(section), "--code", code, "--input", *inputs,
            "--output", f"metrics={folder}/metrics.json", f"record={folder}/record.json", "--scratch", str(self.scratch),
        ]  # fmt: skip

    def start(self, *extra: str) -> warm_python.Process:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
        return warm_python.Process([*self.command, *extra], ROOT, environment)

    def run(self, *extra: str, expect: int = 0) -> str:
        process = self.start(*extra)
        printed = process.communicate(300)[1]
        assert process.returncode == expect, printed
        return printed

    def result(self) -> dict:
        content = json.loads((self.folder / "metrics.json").read_text())
        return {key: content[key] for key in ("metrics", "details", "protocol")}


@pytest.fixture(scope="module")
def whole(digits, scenes, checkpoint, tmp_path_factory):
    """What each training gives undisturbed, once for all tests."""
    results: dict[str, dict] = {}

    def of(name: str) -> dict:
        if name not in results:
            each = evaluation(name, digits, scenes, checkpoint, tmp_path_factory.mktemp(name))
            each.run()
            results[name] = each.result()
        return results[name]

    return of


def evaluation(name: str, digits, scenes, checkpoint, folder: Path, **options) -> Evaluation:
    section = section_of({**TRAININGS[name], **options})
    return Evaluation(section, scenes if name in ("detection", "segmentation") else digits, checkpoint, folder)


@pytest.mark.parametrize("name", TRAININGS)
def test_stopped_by_sigterm_it_goes_on_and_ends_equal_to_the_bit(name, whole, digits, scenes, checkpoint, tmp_path):
    each = evaluation(name, digits, scenes, checkpoint, tmp_path)
    for _ in range(2):  # the second time it goes on, and is stopped again
        process = each.start("--save-minutes", "0")
        saved, deadline = None, time.monotonic() + 120
        before = {path: path.stat().st_mtime_ns for path in each.scratch.glob("*.pt")}
        while saved is None and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
            saved = next((p for p in each.scratch.glob("*.pt") if before.get(p) != p.stat().st_mtime_ns), None)
        process.send_signal(signal.SIGTERM)
        printed = process.communicate(120)[1]
        assert process.returncode == 75 and "stopped (SIGTERM" in printed and "start again to go on" in printed, printed
        assert not (tmp_path / "metrics.json").exists() and not (tmp_path / "record.json").exists()
    assert "continuing in epoch" in printed
    assert "continuing in epoch" in each.run()
    assert each.result() == whole(name)
    assert not each.scratch.exists()


@pytest.mark.parametrize("fault", ["truncated", "empty", "other options", "other network"])
def test_a_foreign_or_damaged_state_is_ignored_with_a_message(fault, whole, digits, scenes, checkpoint, tmp_path):
    if fault == "other network":
        torch.manual_seed(1)
        state = {f"encoder.{key}": value for key, value in build_encoder(SMALL, 8).state_dict().items()}
        save_checkpoint({"objective": state}, tmp_path / "other.pt")
    options = {"learning_rate": 0.02} if fault == "other options" else {}
    network = tmp_path / "other.pt" if fault == "other network" else checkpoint
    first = evaluation("semi_supervised", digits, scenes, network, tmp_path, **options)
    assert "configured minutes" in first.run("--max-minutes", "0.0001", expect=75)
    (path,) = first.scratch.glob("*.pt")
    content = path.read_bytes()
    if fault in ("truncated", "empty"):
        path.write_bytes(content[: len(content) // 2] if fault == "truncated" else b"")
    each = evaluation("semi_supervised", digits, scenes, checkpoint, tmp_path)
    words = each.run()
    assert "ignoring a partial checkpoint" in words and "continuing" not in words
    assert each.result() == whole("semi_supervised")


def test_a_signal_is_kept_for_later_only_while_something_looks_for_it(tmp_path):
    """Elsewhere it ends the job at once, as any."""
    arguments = SimpleNamespace(scratch=tmp_path / "scratch", save_minutes=10, max_minutes=0)
    saves = InScratch(Job("evaluate", {}, {}, {}, "code", arguments))
    own, handlers = [signal.SIGTERM, signal.SIGUSR1], []
    for _ in range(2):
        assert saves.begin("one") is None
        handlers.append([signal.getsignal(number) for number in own])
        saves.offer("one", lambda: pytest.fail("there is nothing to save"))
        saves.end("one", lambda: pytest.fail("it was short"))
        handlers.append([signal.getsignal(number) for number in own])
    assert handlers[1] == handlers[3] == [signal.SIG_DFL, signal.SIG_DFL] and not set(handlers[0]) & set(handlers[1])
    saves.began -= 1000
    saves.saved -= 1000
    saves.offer("one", lambda: {"objective": {}, "epoch": 2, "step": 3})
    assert saves.begin("one")["step"] == 3 and saves.begin("another") is None
    for number in own:
        signal.signal(number, signal.SIG_DFL)


def test_every_evaluation_that_trains_networks_is_tried_here():
    texts = {name: Path(load_plugin("evals", name).__file__).read_text() for name in plugin_names("evals")}
    assert {name for name, text in texts.items() if "saves.begin(" in text or "_finetune.finetuned(" in text} == set(TRAININGS)
