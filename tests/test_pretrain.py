"""Stages, resuming and several processes, for every objective: the same parametrised tests."""

import json
import os
import signal
import socket
import time
from pathlib import Path

import pytest
import torch

from invp.plumbing.config import plugin_options, structured
from invp.plumbing.encoder_options import encoder_section
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load
from invp.plumbing.files import canonical_json
from invp.plumbing.plugins import constants, plugin_names
from invp.plumbing.provenance import code_digest, step_modules
from invp.plumbing.sections import Encoder, Training
from invp.steps import pretrain
from invp.training.checkpoint import load_checkpoint
from invp.training.distributed import Group
from invp.training.loop import Stage
from invp.training.optim import build_optimizer, learning_rate, weight_decay
from tests import warm_python

ROOT = Path(__file__).resolve().parent.parent
OBJECTIVES = plugin_names("objectives")
# Small values where the defaults are for large sets.
SMALL = {
    "invp": {"num_negatives": 300, "ramp_epoch": 1, "num_positives": 10},
    "instance_discrimination": {"num_negatives": 300},
    "neighbourhood_discovery": {"round_epochs": 1},
    "local_aggregation": {
        "loss": "infonce",
        "num_negatives": 300,
        "num_background": 300,
        "num_clusterings": 2,
        "num_clusters": 30,
        "warmup_epochs": 1,
    },
    "moco": {"num_keys": 300, "momentum": 0.99, "temperature": 0.2},
    # Batch normalisation has the statistics of one process.
    "nnclr": {"num_rows": 300, "hidden": 64, "batch_norm": False},
    "mae": {"decoder_width": 24, "decoder_depth": 1, "decoder_heads": 2},
    "dino": {"num_prototypes": 30, "num_small": 1, "momentum": 0.9, "patch_weight": 0.5, "koleo": 0.1, "teacher_temperature": 0.06},
    "moco_v3": {"hidden": 64, "batch_norm": False, "last_norm": False},
    "msf": {"num_keys": 300, "hidden": 64, "norm_group": 16},
    "relational": {"num_keys": 300, "momentum": 0.99},
    "pcl": {"num_keys": 300, "momentum": 0.99, "num_clusters": [10, 20], "warmup_epochs": 1},
    # Group normalisation over patches of two pixels amplifies a rounding by a million in an epoch: larger ones, weighed little.
    "pirl": {"loss": "infonce", "num_negatives": 300, "temperature": 0.5, "weight": 0.1, "patch_size": 4},
    "deep_cluster": {"num_clusters": 20, "classifier_rate": 1.0},
    "dense_correspondence": {"num_points": 16},
    "cpc": {"patch_size": 6, "stride": 3, "farthest": 2, "temperature": 0.2, "allow_batch_norm": True},
    "cmc": {"loss": "infonce", "num_negatives": 300, "temperature": 0.2},
    "colourisation": {"least_colour": 0.0},  # digits are grey: with a limit none of them would count
    "autoencoder": {"decoder_width": 8, "sparsity": 0.01},
    "context_encoder": {"decoder_width": 8, "num_blocks": 2, "adversary": 0.1},
    "relative_location": {"patch_size": 6, "patch_share": 1.0, "grey": 0.0, "hidden": 64},
    "jigsaw": {"patch_size": 6, "num_permutations": 10, "colour_shift": 1},
    "swav": {"num_prototypes": 30, "num_small": 1, "queue_length": 64, "queue_after": 1},
}

# Pixels of a view's side, of objectives that need more than the digits' eight.
SIZES = {"cpc": 12, "relative_location": 24, "jigsaw": 24}


TRANSFORMERS = ("dino", "mae")  # objectives that are tried with one
TRANSFORMER = {"name": "vit_tiny", "token_width": 24, "depth": 2, "patch": 2}


def small_encoder(objective: str, **options) -> dict:
    """All options of the smallest encoder for the objective; of two networks, each has the whole width, which group normalisation divides.

    Options of a ResNet are not a transformer's.
    """
    if objective in TRANSFORMERS:
        return structured(Encoder, TRANSFORMER, "test")
    kind = constants("objectives", objective).get("INPUT", "rgb")
    own = {"name": "resnet_small", "width": 8, "input": kind, "width_share": 1.0 if kind == "l+ab" else 0.5}
    return encoder_section(structured(Encoder, own | options, "test"))


def pretrain_section(loaded: dict, seed: int, stage: int) -> dict:
    return pretrain.section({"loaded": {"one": loaded}}, experiment="one", seed=seed, stage=stage)


def experiment(objective="invp", norm="batch", **options) -> dict:
    loaded = load(ROOT / "config" / "experiments" / "digits-invp.yaml")
    values = {"name": objective, **SMALL.get(objective, {}), **options}
    loaded["objective"] = plugin_options("objectives", values, "test")
    loaded["encoder"] = small_encoder(objective, norm=norm)
    loaded["head"]["dimensions"] = 32
    if not constants("objectives", objective).get("HEAD", True):
        loaded["head"]["kind"] = "none"
    loaded["augmentation"]["size"] = SIZES.get(objective, loaded["augmentation"]["size"])
    # Eleven steps an epoch of the 360 test images; a rate so small that roundings do not grow.
    loaded["training"] |= {"epochs": 4, "batch_size": 32, "learning_rate": 0.001}
    loaded["stages"] = [2, 4]
    return loaded


def command(section: dict, dataset: Path, out: Path, parent: Path | None = None, *extra: str) -> list[str]:
    """What follows `python -m` to train a stage."""
    code = code_digest(step_modules("pretrain", section))
    inputs = [f"dataset={dataset / 'manifest.json'}", *([f"parent={parent}"] if parent else [])]
    outputs = [f"checkpoint={out / 'checkpoint.pt'}", f"metrics={out / 'metrics.jsonl'}", f"record={out / 'record.json'}"]
    return ["invp", "pretrain", "--section", canonical_json(section), "--code", code, "--input", *inputs,
            "--output", *outputs, "--scratch", str(out / "scratch"), *extra]  # fmt: skip


def start(arguments: list[str], **extra: str) -> warm_python.Process:
    return warm_python.Process(arguments, ROOT, {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **extra})


def train(section, dataset, out, parent=None, *extra, expect=0) -> str:
    """Trains a stage in a process of its own, and returns what it printed."""
    process = start(command(section, dataset, out, parent, *extra))
    printed = process.communicate(300)[1]
    assert process.returncode == expect, printed
    return printed


def train_on_two_ranks(section, dataset, out) -> None:
    """As `--processes 2`, but for torchrun: two processes that are told their ranks as torchrun tells them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"INVP_WORKER": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    ranks = [start(command(section, dataset, out), **group, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1")]
    printed = [rank.communicate(300)[1] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], printed


def losses(*folders: Path) -> list[dict]:
    rows = [json.loads(line) for folder in folders for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second", "memory_mb")} for row in rows]


def assert_equal(one, other, path="") -> None:
    """Equality to the last bit of nested states."""
    assert type(one) is type(other), path
    if isinstance(one, torch.Tensor):
        torch.testing.assert_close(other, one, rtol=0, atol=0, equal_nan=True, msg=path)
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_equal(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other), path
        for i, (a, b) in enumerate(zip(one, other, strict=True)):
            assert_equal(a, b, f"{path}/{i}")
    else:
        assert one == other, path


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory):
    """Each objective trained for four epochs in one stage, once for all tests."""
    folders = {}

    def of(objective: str) -> Path:
        if objective not in folders:
            folders[objective] = tmp_path_factory.mktemp(objective)
            train(pretrain_section(experiment(objective), 0, 4), digits["test"], folders[objective])
        return folders[objective]

    return of


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_cut_into_stages_and_stopped_by_sigterm_it_ends_equal_to_the_bit(objective, whole, digits, tmp_path):
    one = whole(objective)
    first, second = tmp_path / "stage-2", tmp_path / "stage-4"
    train(pretrain_section(experiment(objective), 0, 2), digits["test"], first)
    section = pretrain_section(experiment(objective), 0, 4)
    process = start(command(section, digits["test"], second, first / "checkpoint.pt", "--save-minutes", "0"))
    partial = second / "scratch" / "partial.pt"
    deadline = time.monotonic() + 120
    while not partial.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    printed = process.communicate(120)[1]
    assert process.returncode == 75, printed
    assert "SIGTERM" in printed and "start again to go on" in printed
    assert not (second / "checkpoint.pt").exists()
    words = train(section, digits["test"], second, first / "checkpoint.pt")
    assert "continuing in epoch" in words
    assert not partial.exists()
    a, b = load_checkpoint(one / "checkpoint.pt"), load_checkpoint(second / "checkpoint.pt")
    for key in ("objective", "optimizer", "epoch", "step"):
        assert_equal(a[key], b[key], key)
    assert losses(one) == losses(first, second)


BANKS = [(name, {}) for name in OBJECTIVES] + [
    ("invp", {"bank": "sharded"}),
    ("invp", {"bank": "sharded", "graph": "epoch", "search": "fp16", "num_negatives": 0, "ramp_epoch": 0}),
    ("instance_discrimination", {"bank": "sharded"}),
    ("instance_discrimination", {"bank": "sharded", "loss": "infonce"}),
    ("pirl", {"bank": "sharded"}),
]


@pytest.mark.parametrize(("objective", "options"), BANKS)
def test_two_processes_with_half_the_batch_each_equal_one(objective, options, digits, tmp_path):
    """What an epoch of 11 steps changed, float32: sums in another order differ by far less than a lost gradient would."""
    section = pretrain_section(experiment(objective, norm="group", **options), 0, 1)
    train(section, digits["test"], tmp_path / "one")
    if (objective, options) == ("invp", {}):
        train(section, digits["test"], tmp_path / "two", None, "--processes", "2")
    else:
        train_on_two_ranks(section, digits["test"], tmp_path / "two")
    a, b = (load_checkpoint(tmp_path / n / "checkpoint.pt")["objective"] for n in ("one", "two"))
    start = Stage(section, digits["test"], None, Group(0, 1, torch.device("cpu")), "test").objective.state_dict()
    weights = [name for name in a if name.startswith(("encoder.", "head.")) and a[name].is_floating_point()]
    one, two, before = (torch.cat([state[name].double().flatten() for name in weights]) for state in (a, b, start))
    assert (two - one).norm() < 0.05 * (one - before).norm()
    if "bank" in a:
        assert (b["bank"] - a["bank"]).norm() < 1e-3 * a["bank"].norm()
    assert a.keys() == b.keys()
    for x, y in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert y["loss"] == pytest.approx(x["loss"], rel=1e-4)


def test_a_sharded_bank_is_saved_whole_and_goes_on_with_another_number_of_processes(digits, tmp_path):
    section = pretrain_section(experiment(norm="group", bank="sharded", ramp_epoch=0), 0, 2)
    train(section, digits["test"], tmp_path / "one")
    out = tmp_path / "two"
    train(section, digits["test"], out, None, "--processes", "2", "--max-minutes", "0.0001", expect=75)
    assert len(load_checkpoint(out / "scratch" / "partial.pt")["objective"]["bank"]) == 360
    words = train(section, digits["test"], out)
    assert "continuing in epoch" in words
    a, b = (load_checkpoint(tmp_path / n / "checkpoint.pt")["objective"] for n in ("one", "two"))
    assert (b["bank"] - a["bank"]).norm() < 1e-2 * a["bank"].norm()


def test_max_minutes_saves_and_leaves_with_its_own_code(digits, tmp_path):
    section = pretrain_section(experiment(), 0, 4)
    words = train(section, digits["test"], tmp_path, None, "--max-minutes", "0.0001", expect=75)
    assert "configured minutes" in words and (tmp_path / "scratch" / "partial.pt").exists()


DAMAGED_ALIKE = [pytest.param(fault, marks=pytest.mark.slow) for fault in ("flipped", "empty")]  # refused where a cut one is


@pytest.mark.parametrize("fault", ["truncated", "other options", *DAMAGED_ALIKE])
def test_a_foreign_or_damaged_partial_checkpoint_is_ignored_with_a_message(fault, whole, digits, tmp_path):
    section = pretrain_section(experiment(), 0, 4)
    partial = tmp_path / "scratch" / "partial.pt"
    other = pretrain_section(experiment(temperature=0.5), 0, 4) if fault == "other options" else section
    train(other, digits["test"], tmp_path, None, "--max-minutes", "0.0001", expect=75)
    content = bytearray(partial.read_bytes())
    if fault == "truncated":
        content = content[: len(content) // 2]
    elif fault == "empty":
        content = bytearray()
    elif fault == "flipped":
        content[:64] = bytes(64)
    partial.write_bytes(bytes(content))
    words = train(section, digits["test"], tmp_path)
    assert "ignoring a partial checkpoint" in words
    assert losses(tmp_path) == losses(whole("invp"))


def test_a_damaged_parent_is_a_clear_error(whole, digits, tmp_path):
    parent = tmp_path / "parent.pt"
    parent.write_bytes((whole("invp") / "checkpoint.pt").read_bytes()[:5000])
    words = train(pretrain_section(experiment(), 0, 4), digits["test"], tmp_path / "out", parent, expect=2)
    assert "parent.pt is damaged" in words and "Traceback" not in words


def test_a_rank_that_dies_ends_the_job_at_once(digits, tmp_path):
    section = pretrain_section(experiment(), 0, 4)
    process = start(command(section, digits["test"], tmp_path, None, "--processes", "2", "--save-minutes", "0"))
    deadline = time.monotonic() + 120
    while not (tmp_path / "scratch" / "partial.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    owner = int((tmp_path / "scratch" / "lock").read_text().split()[0])
    os.kill(owner, signal.SIGKILL)
    killed = time.monotonic()
    printed = process.communicate(60)[1]
    assert process.returncode not in (0, 75)
    assert time.monotonic() - killed < 30
    assert "SIGKILL" in printed or "Signal 9" in printed
    assert not (tmp_path / "checkpoint.pt").exists()


def test_equal_features_are_reported_as_a_collapse(digits, tmp_path):
    section = pretrain_section(experiment(num_negatives=8, momentum=0.0), 0, 4)
    section["stage"] = 8
    section["training"] |= {"epochs": 8, "learning_rate": 0.3, "schedule": "constant"}
    section["objective"]["temperature"] = 1.0
    words = train(section, digits["test"], tmp_path, expect=2)
    assert "collapsed" in words and "num_negatives" in words and "Traceback" not in words


def test_the_epoch_before_a_stage_counts_when_a_collapse_is_looked_for(digits, tmp_path, monkeypatch):
    """So a training in stages is refused where one that ran through is, and nowhere else."""
    looked_at = []
    monkeypatch.setattr(
        "invp.training.loop.refuse_collapse", lambda rows, section: looked_at.append([row["epoch"] for row in rows])
    )
    group, saved = Group(0, 1, torch.device("cpu")), tmp_path / "stage.pt"
    first = Stage(pretrain_section(experiment(), 0, 2), digits["test"], None, group, "test")
    for _ in range(2):
        first.sums = {"seconds": 0.0}
        first._end_epoch(1.0)
    first.save(saved)
    second = Stage(pretrain_section(experiment(), 0, 4), digits["test"], saved, group, "test")
    second.sums = {"seconds": 0.0}
    second._end_epoch(1.0)
    assert looked_at == [[1], [1, 2], [2, 3]] and [row["epoch"] for row in second.rows] == [3]


def test_an_infinite_loss_stops_the_run_and_names_the_batch(digits, tmp_path):
    section = pretrain_section(experiment(), 0, 4)
    section["training"] |= {"learning_rate": 1e30, "schedule": "constant"}
    words = train(section, digits["test"], tmp_path, expect=2)
    assert "indices" in words and "learning_rate" in words


def test_schedules():
    base = {"learning_rate": 1.0, "warmup_epochs": 0, "drops": [4, 6], "drop_factor": 0.1, "epochs": 8}
    base |= {"schedule_by": "epoch", "final_rate": 0.0}
    rates = [learning_rate({**base, "schedule": "multistep"}, e) for e in range(8)]
    assert rates == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    rates = [learning_rate({**base, "schedule": "cosine"}, e) for e in range(8)]
    assert rates[0] == 1 and rates[4] == pytest.approx(0.5) and rates == sorted(rates, reverse=True)
    assert learning_rate({**base, "schedule": "constant", "warmup_epochs": 4}, 0) == 0.25
    assert learning_rate({**base, "schedule": "cosine"}, 3.9) == rates[3], "by epoch it is that of the whole epoch"
    by_step = {**base, "schedule": "cosine", "schedule_by": "step", "warmup_epochs": 2, "final_rate": 0.2}
    assert [learning_rate(by_step, x) for x in (0, 0.5, 2)] == [0, 0.25, 1]
    # Cosine from 1 to 0.2 in the six epochs after the warm-up: torch's own scheduler, four steps an epoch.
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=24, eta_min=0.2)
    for step in range(24):
        assert learning_rate(by_step, 2 + step / 4) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_the_weight_decay_goes_to_its_end_as_lightlys_schedule():
    schedule = pytest.importorskip("lightly.utils.scheduler")
    training = {"weight_decay": 0.04, "weight_decay_end": 0.4, "epochs": 5, "schedule_by": "step"}
    for step in range(20):  # theirs ends with the last step
        assert weight_decay(training, step / 4 * 20 / 19) == pytest.approx(schedule.cosine_schedule(step, 20, 0.04, 0.4))
    assert weight_decay({**training, "schedule_by": "epoch"}, 2.9) == weight_decay(training, 2.0)


def optimised(model: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int = 5) -> list[torch.Tensor]:
    images = torch.randn(steps, 6, 3, generator=torch.Generator().manual_seed(1))
    for batch in images:
        optimizer.zero_grad()
        model(batch).square().sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


def two_layers() -> torch.nn.Module:
    torch.manual_seed(0)
    # No bias before the normalisation: its gradient is rounding error, which Adam would scale up to a whole step.
    return torch.nn.Sequential(torch.nn.Linear(3, 4, bias=False), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))


@pytest.mark.parametrize("decay_norms", [True, False])
@pytest.mark.parametrize("name", ["sgd", "adamw", "lars"])
def test_an_optimizer_is_the_one_of_its_name(name, decay_norms):
    """torch's own, and lightly's LARS; what does not decay has a group of its own."""
    values = {"optimizer": name, "learning_rate": 0.05, "weight_decay": 0.1, "decay_norms": decay_norms, "epochs": 1}
    values |= {"betas": [0.8, 0.95]} if name == "adamw" else {"momentum": 0.7}
    training = structured(Training, values | ({"trust": 0.02} if name == "lars" else {}), "test")
    ours, theirs = two_layers(), two_layers()
    decayed = [p for n, p in theirs.named_parameters() if n in ("0.weight", "2.weight")]
    others = [p for n, p in theirs.named_parameters() if n not in ("0.weight", "2.weight")]
    groups = [{"params": decayed + ([] if not decay_norms else others)}]
    groups += [] if decay_norms else [{"params": others, "weight_decay": 0.0}]
    common = {"lr": 0.05, "weight_decay": 0.1}
    if name == "adamw":
        other = torch.optim.AdamW(groups, betas=(0.8, 0.95), **common)
    elif name == "sgd":
        other = torch.optim.SGD(groups, momentum=0.7, **common)
    else:
        other = pytest.importorskip("lightly.utils.lars").LARS(groups, momentum=0.7, trust_coefficient=0.02, **common)
    for one, two in zip(optimised(ours, build_optimizer(ours, training)), optimised(theirs, other), strict=True):
        torch.testing.assert_close(one, two)
    assert (ours[1].weight - two_layers()[1].weight).abs().max() > 1e-4


def test_lars_scales_though_nothing_decays():
    values = {"optimizer": "lars", "learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0, "decay_norms": False, "epochs": 1}
    training = structured(Training, values | {"trust": 0.01}, "test")
    model, before = two_layers(), two_layers()
    optimised(model, build_optimizer(model, training), steps=1)
    torch.testing.assert_close((model[0].weight - before[0].weight).norm(), 0.01 * before[0].weight.norm())


OPTIMIZED = {
    "adamw": {"optimizer": "adamw", "momentum": 0.9, "weight_decay_end": 0.1, "decay_norms": False, "schedule_by": "step"},
    "lars": {"optimizer": "lars", "clip": 0.5, "schedule_by": "step", "warmup_epochs": 1, "final_rate": 1e-4},
}


@pytest.mark.parametrize("name", OPTIMIZED)
def test_with_another_optimizer_it_resumes_to_the_bit_inside_an_epoch(name, digits, tmp_path):
    loaded = experiment("simclr")
    loaded["training"] |= OPTIMIZED[name]
    section, group = pretrain_section(loaded, 0, 2), Group(0, 1, torch.device("cpu"))
    whole = Stage(section, digits["test"], None, group, "test")
    assert whole.run(2, tmp_path / "partial.pt", 10, StopAfter(10**9))
    left = Stage(section, digits["test"], None, group, "test")
    assert not left.run(2, tmp_path / "partial.pt", 10, StopAfter(34))
    again = Stage(section, digits["test"], None, group, "test")
    again.resume(tmp_path / "partial.pt")
    assert again.epoch == 1 and 0 < again.step < 11
    assert again.run(2, tmp_path / "partial.pt", 10, StopAfter(10**9))
    assert_equal(whole.state()["objective"], again.state()["objective"])
    assert_equal(whole.state()["optimizer"], again.state()["optimizer"])
    rates = [row["learning_rate"] for row in whole.rows]
    assert rates == [row["learning_rate"] for row in again.rows] and rates[0] != rates[1]


class StopAfter:
    """Asks to leave when it was looked at so many times: twice a step."""

    reason = "test"

    def __init__(self, looks: int):
        self.looks = looks

    def __bool__(self) -> bool:
        self.looks -= 1
        return self.looks < 0


def test_the_norm_of_all_gradients_is_clipped(digits):
    norms = []
    for clip in (0.0, 0.01):
        loaded = experiment("simclr")
        loaded["training"] |= {"clip": clip, "momentum": 0.0, "weight_decay": 0.0}
        stage = Stage(pretrain_section(loaded, 0, 1), digits["test"], None, Group(0, 1, torch.device("cpu")), "test")
        stage.objective.train()
        stage._train_step(*next(iter(stage._batches())))
        norms.append(torch.stack([p.grad.norm() for p in stage.objective.parameters()]).norm().item())
    assert norms[0] > 0.02 and norms[1] == pytest.approx(0.01, rel=1e-3)


def test_kinds_of_view_have_their_sizes_and_count_by_their_area(digits):
    loaded = experiment("simclr")
    small = loaded["augmentation"] | {"size": 4}
    loaded["views"] = [loaded["augmentation"] | {"count": 1}, small | {"count": 1}]
    stage = Stage(pretrain_section(loaded, 0, 1), digits["test"], None, Group(0, 1, torch.device("cpu")), "test")
    _, _, views = next(iter(stage._batches()))
    assert [view.shape[-1] for view in views] == [8, 4] and stage.views == 1.25
    loaded["views"] = [loaded["augmentation"] | {"count": 2}]
    alike = Stage(pretrain_section(loaded, 0, 1), digits["test"], None, Group(0, 1, torch.device("cpu")), "test")
    loaded["views"] = []
    plain = Stage(pretrain_section(loaded, 0, 1), digits["test"], None, Group(0, 1, torch.device("cpu")), "test")
    assert all(map(torch.equal, next(iter(alike._batches()))[2], next(iter(plain._batches()))[2]))
    assert alike.views == plain.views == 2


def test_an_objective_that_asks_is_told_how_far_the_training_is(digits, tmp_path, monkeypatch):
    section = pretrain_section(experiment("simclr"), 0, 2)
    stage = Stage(section, digits["test"], None, Group(0, 1, torch.device("cpu")), "test")
    stage.told_progress, seen = True, []
    forward = stage.objective.forward
    monkeypatch.setattr(stage.objective, "forward", lambda *given: seen.append(stage.objective.progress) or forward(*given))
    stage.run(2, tmp_path / "partial.pt", 10, StopAfter(10**9))
    assert seen == pytest.approx([number / 11 / 4 for number in range(22)]), "of four epochs"


def test_the_authors_rates_come_an_epoch_earlier(digits, tmp_path):
    """Theirs: x0.1 from the epoch on that a drop names; cosine of epoch / epochs, counted from 1."""
    section = pretrain_section(experiment(official_compat=True), 0, 2)
    section["training"] |= {"schedule": "multistep", "drops": [2], "drop_factor": 0.1, "learning_rate": 0.001}
    train(section, digits["test"], tmp_path)
    rates = [json.loads(line)["learning_rate"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rates == pytest.approx([0.001, 0.0001])


def test_stages_outside_the_section_do_not_change_it_but_for_a_graph_by_stage():
    a, b = experiment(), experiment()
    b["stages"] = [1, 2, 3, 4]
    assert pretrain_section(a, 0, 4) == pretrain_section(b, 0, 4)
    a["objective"]["graph"] = b["objective"]["graph"] = "stage"
    assert pretrain_section(a, 0, 4) != pretrain_section(b, 0, 4)


@pytest.mark.parametrize(("schedule", "depends"), [("cosine", True), ("multistep", False), ("constant", False)])
def test_the_horizon_counts_where_the_schedule_looks_at_it(schedule, depends):
    """In the section, as in the rates of epochs that both have."""
    sections, rates = [], []
    for epochs in (4, 9):
        loaded = experiment()
        loaded["training"] |= {"epochs": epochs, "schedule": schedule, "drops": [2]}
        sections.append(pretrain_section(loaded, 0, 4))
        rates.append([learning_rate(loaded["training"], epoch) for epoch in range(4)])
        if not depends:
            assert rates[-1] == [learning_rate(sections[-1]["training"], epoch) for epoch in range(4)]
    assert (sections[0] != sections[1]) == (rates[0] != rates[1]) == depends


@pytest.mark.parametrize(
    ("options", "channels"),
    [
        ({"width": 4}, "4"),
        ({"width": 8, "input": "l+ab", "width_share": 0.5}, "4"),
        ({"width": 8}, None),
        ({"name": "resnet18"}, None),
    ],
)
def test_channels_too_few_for_channels_last_are_refused(options, channels):
    """torch ends with a corrupted heap on some CPUs."""
    loaded = experiment("cmc" if "input" in options else "invp")
    loaded["encoder"] |= options
    for last in (False, True):
        loaded["training"]["channels_last"] = last
        if last and channels:
            with pytest.raises(UserError, match=f"leaves {channels} channels; valid with training.channels_last: at least 8"):
                pretrain.check(loaded)
        else:
            pretrain.check(loaded)
