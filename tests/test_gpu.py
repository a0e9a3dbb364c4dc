"""The same numbers on a GPU as on a CPU: `python -m pytest -m gpu`. Each test runs on the CPU too, against itself, so that it is tried without one.

The GPU's halves were run on one H100, with torch 2.11, but for steps that are replayed of others than InvP, the instance loss and SimCLR.
"""

import copy
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from invp.data.augment import Augment
from invp.data.batches import epoch_order, train_batches
from invp.data.decode import crop_draws, crops_on_device, random_crops
from invp.data.shards import Shards
from invp.evals import detection, linear
from invp.evals._inputs import Saves
from invp.models.encoders import build_encoder
from invp.plumbing.config import plugin_options
from invp.plumbing.plugins import load_plugin
from invp.plumbing.sections import Augmentation
from invp.steps import prepare
from invp.steps.evaluate import evaluated
from invp.steps.graph import exact_neighbours
from invp.training.distributed import Group
from invp.training.loop import Stage

sys.path.insert(0, str(Path(__file__).parent / "objectives"))
from test_contract import OBJECTIVES, batch, build, embed
from test_pretrain import experiment, pretrain_section

NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, NO_GPU])]
CPU = torch.device("cpu")
STEADY = [name for name in OBJECTIVES if hasattr(load_plugin("objectives", name), "steady")]
SMALL = {"name": "resnet_small", "stem": "auto", "norm": "batch", "width": 16, "blocks": 1, "zero_init_residual": False}


@pytest.fixture(autouse=True)
def without_tf32():
    """TF32 rounds to ten bits, which hides errors."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objectives_loss_and_gradient(name, device):
    one = build(name)
    other = copy.deepcopy(one).to(device)
    one.begin_epoch(2, embed(one))
    on_cpu = embed(other)
    other.begin_epoch(2, lambda function: on_cpu(lambda images: function(images.to(device)).cpu()).to(device))
    # What begin_epoch draws or fits may differ in the last bits between devices: the second gets the first's memory.
    other.load_state_dict(one.state_dict())
    views, index = batch(one, 2, 0)
    outputs = [one(views, index, 2), other([v.to(device) for v in views], index.to(device), 2)]
    torch.testing.assert_close(outputs[1]["loss"].cpu(), outputs[0]["loss"], atol=1e-3, rtol=1e-3)
    weights = [next(p for p in o.parameters() if p.requires_grad) for o in (one, other)]
    slopes = [torch.autograd.grad(output["loss"], w)[0].cpu() for output, w in zip(outputs, weights, strict=True)]
    assert float((slopes[1] - slopes[0]).norm() / slopes[0].norm()) < 0.02
    for objective, output, where in ((one, outputs[0], "cpu"), (other, outputs[1], device)):
        objective.end_step(index.to(where), {name: rows.detach() for name, rows in output["memory"].items()})
    for key, value in one.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(other.state_dict()[key].cpu(), value, atol=2e-3, rtol=1e-2, equal_nan=True)


@pytest.mark.parametrize("device", DEVICES)
def test_augmentation(device):
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    options = Augmentation(
        size=32, flip=True, jitter=[0.4, 0.4, 0.4, 0.1], jitter_probability=0.8, grayscale=0.2, blur_probability=0.5
    )
    expected = Augment(options)(images, (0, 1, 2, 0), slice(0, 64), 64)
    found = Augment(options)(images.to(device), (0, 1, 2, 0), slice(0, 64), 64).cpu()
    assert (found - expected).abs().mean() < 1e-4 and (found - expected).abs().quantile(0.999) < 1e-2


@pytest.mark.parametrize("device", DEVICES)
def test_batches_of_small_images(device, digits):
    shards = Shards(digits["train"])
    common = {
        "order": epoch_order(1437, 0, 1),
        "batch_size": 64,
        "start_step": 20,
        "rank": 0,
        "world_size": 1,
        "seed": 0,
        "epoch": 1,
    }
    common |= {"augmentations": [Augment(Augmentation(size=8))]}
    for (_, index, (ours,)), (_, same, (theirs,)) in zip(
        train_batches(shards, device=torch.device(device), **common), train_batches(shards, device=CPU, **common), strict=True
    ):
        assert torch.equal(index, same) and ours.device.type == device
        torch.testing.assert_close(ours.cpu(), theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_photographs_decoded_on_the_device(device, tmp_path):
    pytest.importorskip("torchcodec")
    folder, rng = tmp_path / "data" / "pets" / "train" / "cat", np.random.default_rng(0)
    folder.mkdir(parents=True)
    for i in range(4):
        smooth = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((120, 90), Image.Resampling.BICUBIC)
        smooth.save(folder / f"{i}.jpg", quality=95)
    options = plugin_options("datasets", {"name": "image_folder", "folder": "pets"}, "test")
    prepare.write_split(options, "train", tmp_path / "data", tmp_path / "out", 1)
    shards, augment = Shards(tmp_path / "out"), Augment(Augmentation(size=32, decoder="torchcodec"))
    found = crops_on_device(shards, torch.arange(4), [augment], (0, 1), torch.device(device))[0]
    assert found.device.type == device
    draws = crop_draws(torch.arange(4), (0, 1, 0))
    others = torch.stack([random_crops(shards, i, [augment], [draws[i]])[0] for i in range(4)]).float()
    assert (found.cpu().float() - others).abs().mean() < 4


@pytest.mark.parametrize(
    ("name", "device"),
    [("invp", "cpu"), ("moco", "cpu"), *(pytest.param(name, "cuda", marks=[pytest.mark.gpu, NO_GPU]) for name in STEADY)],
)
def test_steps_that_are_replayed(name, device, digits):
    """On a GPU from the fourth step on, batches too; no step waits for the GPU."""
    stages = []
    for replaying in (False, True):
        section = pretrain_section(experiment(name), 0, 3)
        stage = Stage(section, digits["test"], None, Group(0, 1, torch.device(device, 0) if device == "cuda" else CPU), "test")
        assert stage.gradients.can_replay == (device == "cuda") and stage.gradients.steady
        stage.gradients.can_replay &= replaying
        for stage.epoch in range(3):
            stage.objective.begin_epoch(stage.epoch + 1, stage.embed)
            for one in stage._batches():
                if device == "cuda":
                    torch.cuda.set_sync_debug_mode("error")
                stage._train_step(*one)
                if device == "cuda":
                    torch.cuda.set_sync_debug_mode("default")
            stage.step = 0
        assert (stage.gradients.replayed is not None and stage.gradients.replayed.graph is not None) == stage.gradients.can_replay
        stages.append(stage)
    before = Stage(section, digits["test"], None, Group(0, 1, CPU), "test").objective.state_dict()
    for key, value in stages[0].objective.state_dict().items():
        if value.is_floating_point() and not value.isnan().any():
            change = (value.cpu() - before[key]).norm()
            assert (stages[1].objective.state_dict()[key] - value).norm().cpu() <= 0.02 * change + 1e-6, key


@pytest.mark.parametrize("device", DEVICES)
def test_augmentation_that_is_replayed(device):
    options = Augmentation(size=32, flip=True, jitter=[0.4, 0.4, 0.4, 0.1], jitter_probability=0.8, grayscale=0.2, solarize=0.2)
    one, other = Augment(options), Augment(options)
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for step in range(6):
        key = (0, 1, step, 0)
        found, expected = other(images.to(device), key, slice(0, 64), 64).cpu(), one(images, key, slice(0, 64), 64)
        assert (found - expected).abs().mean() < 1e-4 and (found - expected).abs().quantile(0.999) < 1e-2
    assert (other._replayed is not None and other._replayed.graph is not None) == (device == "cuda")


@pytest.mark.parametrize("device", DEVICES)
def test_a_grid_of_linear_heads(device):
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(500, 20, generator=generator), torch.randint(0, 4, (500,), generator=generator)
    grid, schedule = [(0.1, 0.0), (0.3, 1e-3)], {"epochs": 3, "batch_size": 64, "seed": 0}
    expected = linear.train_heads(features, labels, 4, grid, **schedule)
    found = linear.train_heads(features.to(device), labels.to(device), 4, grid, **schedule)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("device", DEVICES)
def test_the_snapshot_of_the_graph(device):
    """On the machine's GPUs, where faiss sees any, and on none where there are none."""
    rows = np.random.default_rng(0).normal(size=(3000, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    similarities, neighbours = exact_neighbours(rows, 10)
    truth = rows @ rows.T - 3 * np.eye(3000, dtype=np.float32)
    assert np.allclose(similarities, -np.sort(-truth, 1)[:, :10], atol=1e-5)
    assert (neighbours == np.argsort(-truth, 1)[:, :10]).mean() > 0.999


@pytest.mark.parametrize("device", DEVICES)
def test_a_detector_trains(device, tmp_path):
    options = plugin_options(
        "datasets", {"name": "scenes", "size": 64, "train_images": 8, "test_images": 4, "num_classes": 2}, "test"
    )
    for split in ("train", "test"):
        prepare.write_split(options, split, None, tmp_path / split, 1)
    torch.manual_seed(0)
    inputs = SimpleNamespace(
        encoder=build_encoder(SMALL, 64),
        train=tmp_path / "train",
        test=tmp_path / "test",
        mean=[0.5] * 3,
        std=[0.25] * 3,
        workers=1,
        saves=Saves(),
    )
    config = detection.Config(
        steps=6,
        batch_size=4,
        drops=[5],
        warmup=2,
        train_sizes=[64],
        test_size=64,
        longest=64,
        anchors=[12, 18],
        pooled=7,
        regions=32,
    )
    found = evaluated(detection, config, inputs, {}, seed=0, device=device)
    assert 0 <= found["metrics"]["ap"] <= 100 and found["details"]["loss"][-1] < found["details"]["loss"][0]
