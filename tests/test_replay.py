"""Steps that are replayed, on a pretended CUDA graph: what torch is asked for while a function is recorded is asked for again, with the
same tensors, and written to where the first results lie. What a function keeps in Python, or takes from Python, is as frozen as on a GPU.
"""

import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from invp.core import neighbours, replay
from invp.data.augment import Augment
from invp.plumbing.plugins import load_plugin, plugin_names
from invp.plumbing.sections import Augmentation
from invp.training.distributed import Group
from invp.training.loop import Stage

sys.path.insert(0, str(Path(__file__).parent))
from test_pretrain import experiment, pretrain_section

CPU = torch.device("cpu")
STEADY = [name for name in plugin_names("objectives") if hasattr(load_plugin("objectives", name), "steady")]


def tensors(tree) -> list[torch.Tensor]:
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class PretendedGraph(TorchDispatchMode):
    """In the place of torch.cuda.CUDAGraph. Recording runs what it records, and a CUDA graph's does not: `restored` undoes it."""

    restored = staticmethod(lambda: lambda: None)  # a function that remembers now, and returns one that restores

    def __init__(self):
        super().__init__()
        self.calls, self.replays = [], 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        self.replays += 1
        for func, args, kwargs, result in self.calls:
            given = {tensor.untyped_storage().data_ptr() for tensor in tensors((args, kwargs))}
            for old, new in zip(tensors(result), tensors(func(*args, **kwargs)), strict=True):
                if old.untyped_storage().data_ptr() not in given:  # a view, or written in place
                    old.copy_(new)


@contextmanager
def recorded(graph: PretendedGraph):
    restore = PretendedGraph.restored()
    with graph:
        yield
    restore()


@pytest.fixture
def pretended(monkeypatch):
    made = []

    def new():
        made.append(PretendedGraph())
        return made[-1]

    monkeypatch.setattr(torch.cuda, "CUDAGraph", new)
    monkeypatch.setattr(torch.cuda, "graph", recorded)

    def largest_by_torch(values, k):  # NumPy's work is seen by no recorder
        columns = neighbours._columns_by_groups(values, k)
        return values.gather(1, columns), columns

    monkeypatch.setattr(neighbours, "_largest_on_cpu", largest_by_torch)
    return made


def trained(section: dict, dataset: Path, epochs: int, replaying: bool, monkeypatch) -> tuple[Stage, list[dict]]:
    stage = Stage(section, dataset, None, Group(0, 1, CPU), "test")
    stage.gradients.can_replay = replaying

    def remembered():
        state = {name: value.clone() for name, value in stage.objective.state_dict().items()}
        return lambda: stage.objective.load_state_dict(state)

    monkeypatch.setattr(PretendedGraph, "restored", staticmethod(remembered))
    assert stage.run(epochs, Path("unused"), 60, False)
    return stage, stage.rows


# Where the operations of a step depend on options.
CASES = [(name, {}) for name in STEADY] + [("instance_discrimination", {"loss": loss}) for loss in ("full", "infonce", "nce")] + [
    ("invp", options) for options in ({"search": "fp16"}, {"num_negatives": 0}, {"ramp": "gaussian", "ramp_epoch": 2}, {"graph": "epoch"})
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), CASES)
def test_replayed_steps_train_the_same(name, options, digits, pretended, monkeypatch):
    section = pretrain_section(experiment(name, **options), 0, 2)
    one, rows = trained(section, digits["test"], 2, False, monkeypatch)
    assert not pretended
    other, others = trained(section, digits["test"], 2, True, monkeypatch)
    epochs = len({one.gradients.steady(one.objective.config, epoch) for epoch in (1, 2)})  # as many kinds of step
    assert len(pretended) == epochs and sum(graph.replays for graph in pretended) == 22 - replay.WARM_UP * epochs
    for key, value in one.objective.state_dict().items():
        torch.testing.assert_close(other.objective.state_dict()[key], value, rtol=0, atol=0, equal_nan=True)
    for row, same in zip(rows, others, strict=True):
        assert {k: v for k, v in row.items() if k not in ("seconds", "memory_mb", "images_per_second")} == {
            k: v for k, v in same.items() if k not in ("seconds", "memory_mb", "images_per_second")
        }


def test_a_training_that_cannot_be_recorded_is_as_ever(digits, monkeypatch, capsys):
    """An objective that draws by the epoch would be recorded in each: it is tried, and said, once."""

    @contextmanager
    def refusing(graph):
        yield
        raise RuntimeError("out of memory")

    section = pretrain_section(experiment("rotation"), 0, 3)
    one, _ = trained(section, digits["test"], 3, False, monkeypatch)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", refusing)
    state = {}

    def remembered(stage):
        state.update({name: value.clone() for name, value in stage.objective.state_dict().items()})

    other = Stage(section, digits["test"], None, Group(0, 1, CPU), "test")
    other.gradients.can_replay = True
    # What is recorded on a CPU is also done; a GPU would not have done it.
    record = replay.Replayed._record

    def undone(self, given):
        remembered(other)
        found = record(self, given)
        other.objective.load_state_dict(state)
        return found

    monkeypatch.setattr(replay.Replayed, "_record", undone)
    assert other.run(3, Path("unused"), 60, False)
    for key, value in one.objective.state_dict().items():
        torch.testing.assert_close(other.objective.state_dict()[key], value, rtol=0, atol=0, equal_nan=True)
    assert capsys.readouterr().err.count("no CUDA graph of a step") == 1


def test_what_sends_constants_to_the_device_in_a_step_is_not_recorded():
    """kornia's Lab does, and a CUDA graph cannot hold that; every other objective of the package is replayed."""
    assert set(plugin_names("objectives")) - set(STEADY) == {"cmc", "colourisation", "split_brain"}


def test_a_number_of_pythons_is_frozen(pretended):
    """The test of the test."""
    count = []

    def function(x):
        count.append(1)
        return x + len(count)

    own = replay.Replayed(function, CPU)
    found = [float(own(torch.zeros(()))) for _ in range(7)]
    assert found == [1, 2, 3, 4, 4, 4, 4]


def test_other_shapes_are_not_replayed(pretended):
    own = replay.Replayed(lambda x: x * 2, CPU)
    for length in (3, 3, 3, 3, 3, 2, 3):
        assert own(torch.arange(length)).tolist() == [2 * i for i in range(length)]
    assert pretended[0].replays == 3


def test_what_cannot_be_recorded_goes_on_and_says_so_once(monkeypatch, capsys):
    @contextmanager
    def refusing(graph):
        yield
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", refusing)
    own = replay.Replayed(lambda x: x * 2, CPU)
    assert [int(own(torch.tensor(i))) for i in range(8)] == [2 * i for i in range(8)]
    assert capsys.readouterr().err.count("operation not permitted") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"flip": True, "jitter": [0.4, 0.4, 0.4, 0.1], "jitter_probability": 0.8, "grayscale": 0.2},
        {
            "flip": True,
            "jitter": [0.4, 0.4, 0.4, 0.4],
            "jitter_probability": 1.0,
            "grayscale": 0.2,
            "grayscale_first": True,
            "solarize": 0.3,
        },
        {"jitter": [0.4, 0.0, 0.4, 0.0], "jitter_probability": 0.5, "interpolation": "bicubic", "whole_pixels": True},
        {"jitter_probability": 0.0, "whole_pixels": False, "flip": True},
        {
            "crop_scale": [1.0, 1.0],
            "crop_ratio": [1.0, 1.0],
            "flip": True,
            "jitter_probability": 0.8,
            "jitter": [0.1, 0.2, 0.3, 0.4],
        },
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_at_once_is_the_same(options, channels):
    augment = Augment(Augmentation(size=24, mean=[0.4, 0.5, 0.6], std=[0.2, 0.25, 0.3], **options))
    images = torch.randint(0, 256, (64, channels, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    draws = augment.drawn((0, 1, 2, 0), slice(0, 64), 64, 24, 24)
    constants = torch.tensor([augment.options.mean, augment.options.std])
    expected = augment.applied(images, draws)
    assert torch.equal(augment.applied_at_once(images, draws.table(), constants), expected)
    assert len({tuple(row.flatten().tolist()) for row in expected}) == 64
