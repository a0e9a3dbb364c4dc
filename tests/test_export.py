import json
import pickle
import re
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
import torchvision
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from invp.data.batches import eval_batches
from invp.data.shards import Shards
from invp.data.tables import matrix
from invp.data.transform import Transform
from invp.models.encoders import build_encoder
from invp.plumbing.config import plugin_options, structured
from invp.plumbing.errors import UserError
from invp.plumbing.files import canonical_json, read_table
from invp.plumbing.sections import Encoder as EncoderOptions
from invp.steps import prepare
from invp.tools.export import detectron2_name, run
from invp.training.encoder import load_encoder
from tests.conftest import environment


def write_checkpoint(options, encoder, size, path):
    section = canonical_json({"encoder": options, "augmentation": {"size": size, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}})
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()} | {"bank": torch.zeros(4, 8)}
    torch.save({"objective": state, "section": section, "dataset": {"classes": ["cat", "dog"], "format": "encoded"}}, path)


@pytest.fixture
def checkpoint(tmp_path):
    options = structured(EncoderOptions, {"name": "resnet18"}, "test")
    encoder = build_encoder(options, 64).eval()
    write_checkpoint(options, encoder, 64, tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt", encoder


def export(checkpoint, kind, out):
    run(Namespace(checkpoint=checkpoint, to=kind, out=out))


def features(network, images):
    with torch.no_grad():
        return network.eval()(images)


def test_torchvision_loads_it_and_computes_the_same(checkpoint, tmp_path):
    path, encoder = checkpoint
    export(path, "torchvision", tmp_path / "w.pth")
    network = torchvision.models.resnet18()
    missing, unexpected = network.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True), strict=False)
    assert set(missing) == {"fc.weight", "fc.bias"} and not unexpected
    network.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(features(network, images), features(encoder, images))


SAID = {
    "producer": "invp", "architecture": "resnet18", "image_size": 64, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6],
    "resize": "central crop", "classes": ["cat", "dog"],
}  # fmt: skip


def said(about: dict) -> dict:
    return {key: json.loads(about[key]) for key in SAID}


@pytest.mark.parametrize(("kind", "name"), [("safetensors", "w.safetensors"), ("torchvision", "w.pth"), ("timm", "w.pth")])
def test_load_encoder_reads_exports_as_checkpoints(kind, name, checkpoint, tmp_path):
    path, encoder = checkpoint
    export(path, kind, tmp_path / name)
    images = torch.randn(2, 3, 64, 64)
    for each in (path, tmp_path / name):
        loaded = load_encoder(each)
        assert not loaded.training and torch.equal(features(loaded, images), features(encoder, images))
        assert loaded.transform(Image.new("RGB", (90, 70), (255, 0, 51))).shape == (3, 64, 64)
        assert repr(loaded.transform) == "Transform(the central crop, size=64, mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6])"


def test_safetensors_say_what_they_hold(checkpoint, tmp_path):
    export(checkpoint[0], "safetensors", tmp_path / "w.safetensors")
    with safe_open(tmp_path / "w.safetensors", "pt") as file:
        assert set(file.keys()) == checkpoint[1].state_dict().keys()
        assert said(file.metadata()) == SAID and file.metadata()["format"] == "pt"


def test_load_encoder_refuses_what_we_did_not_write(tmp_path):
    save_file({"conv1.weight": torch.zeros(2)}, tmp_path / "w.safetensors")
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "w.pth")
    for name in ("w.safetensors", "w.pth"):
        with pytest.raises(UserError, match=f"{name} is neither a checkpoint of this workflow .* nor an export"):
            load_encoder(tmp_path / name)


def test_the_transform_is_that_of_the_features(tmp_path):
    """Photographs and small images, one at a time, as eval_batches feeds them."""
    normal = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    options = ({"name": "scenes", "train_images": 6, "test_images": 2}, {"name": "composites", "train_images": 6, "test_images": 2})
    for number, dataset in enumerate(options):
        prepare.write_split(plugin_options("datasets", dataset, "t"), "test", None, tmp_path / str(number))
        shards = Shards(tmp_path / str(number))
        ((_, images),) = eval_batches(shards, size=40, batch_size=8, device="cpu", **normal)
        transform = Transform(40, *normal.values(), whole=shards.format == "uint8")
        for i, expected in enumerate(images):
            image = shards.decoded(i) if shards.format == "encoded" else shards.images(torch.tensor([i]))[0]
            torch.testing.assert_close(transform(image), expected)


def test_timm_loads_it_and_computes_the_same(checkpoint, tmp_path):
    timm = pytest.importorskip("timm")
    path, encoder = checkpoint
    export(path, "timm", tmp_path / "w.pth")
    network = timm.create_model("resnet18", pretrained=False, num_classes=0)
    network.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True))
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(features(network, images), features(encoder, images))


def test_onnx_runs_elsewhere_with_any_batch_and_any_size_of_image(checkpoint, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    path, encoder = checkpoint
    export(path, "onnx", tmp_path / "w.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "w.onnx", providers=["CPUExecutionProvider"])
    for count, height, width in ((1, 64, 64), (5, 64, 64), (2, 75, 130), (1, 224, 192)):
        images = torch.randn(count, 3, height, width)
        found = session.run(["features"], {"images": images.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), features(encoder, images), atol=1e-3, rtol=1e-3)
    assert said(session.get_modelmeta().custom_metadata_map) == SAID


FRESH = """
import glob, sys, torch
from PIL import Image
import invp
encoder = invp.load_encoder(sys.argv[1])
images = torch.stack([encoder.transform(Image.open(path)) for path in sorted(glob.glob(sys.argv[2] + "/*.png"))])
with torch.no_grad():
    torch.save(encoder(images), sys.argv[3])
"""


@pytest.mark.parametrize("kind", ["checkpoint", "safetensors"])
def test_a_fresh_process_computes_what_the_features_step_did(kind, finished, tmp_path):
    checkpoint = finished.folder / "results/smoke-invp/seed-0/pretrain/stage-2/checkpoint.pt"
    path = checkpoint if kind == "checkpoint" else tmp_path / "w.safetensors"
    if kind != "checkpoint":
        export(checkpoint, kind, path)
    shards = Shards(finished.folder / "results/datasets/digits/test")
    for i in range(20):
        pixels = shards.images(torch.tensor([i]))[0].permute(1, 2, 0).numpy()
        Image.fromarray(pixels.squeeze()).save(tmp_path / f"{i:02d}.png")
    command = [sys.executable, "-c", FRESH, str(path), str(tmp_path), str(tmp_path / "features.pt")]
    subprocess.run(command, check=True, cwd=finished.folder, env=environment())
    table = read_table(finished.folder / "results/smoke-invp/seed-0/features/stage-2/digits-test.arrow")
    expected = torch.from_numpy(matrix(table, "feature")[:20].copy())
    torch.testing.assert_close(torch.load(tmp_path / "features.pt", weights_only=True), expected)


@pytest.mark.parametrize("stem", ["cifar", "stride2"])
def test_networks_that_timm_does_not_have_are_refused(stem, tmp_path):
    options = structured(EncoderOptions, {"name": "resnet18", "stem": stem}, "test")
    encoder = build_encoder(options, 32)
    write_checkpoint(options, encoder, 32, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match=f"stem {stem}.*timm has no such network"):
        export(tmp_path / "checkpoint.pt", "timm", tmp_path / "w.pth")


@pytest.mark.parametrize("seen", ["l", "l+ab"])
def test_a_network_that_does_not_see_colours_as_they_are_takes_what_it_sees_along_or_is_refused(seen, tmp_path):
    """Another library would feed it colours in silence. safetensors and ONNX have the way from colours to what it sees."""
    options = structured(EncoderOptions, {"name": "resnet_small", "width": 8, "input": seen}, "test")
    encoder = build_encoder(options, 32, mean=[0.1, 0.2, 0.3], std=[0.4, 0.5, 0.6]).eval()
    path, images = tmp_path / "checkpoint.pt", torch.rand(2, 3, 32, 32)
    write_checkpoint(options, encoder, 32, path)
    for kind in ("torchvision", "timm", "detectron2"):
        with pytest.raises(UserError, match=rf"encoder.input {re.escape(seen)}, and {kind} would give it the colours as they are"):
            export(path, kind, tmp_path / "w.pth")
        assert not (tmp_path / "w.pth").exists()
    export(path, "safetensors", tmp_path / "w.safetensors")
    torch.testing.assert_close(features(load_encoder(tmp_path / "w.safetensors"), images), features(encoder, images))
    onnxruntime = pytest.importorskip("onnxruntime")
    export(path, "onnx", tmp_path / "w.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "w.onnx")
    (found,) = session.run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), features(encoder, images), rtol=1e-3, atol=1e-4)


def test_detectron2s_names(checkpoint, tmp_path):
    export(checkpoint[0], "detectron2", tmp_path / "w.pkl")
    model = pickle.loads((tmp_path / "w.pkl").read_bytes())["model"]
    assert {
        "stem.conv1.weight",
        "stem.conv1.norm.running_var",
        "res2.0.conv1.weight",
        "res3.0.shortcut.norm.weight",
    } <= model.keys()
    assert detectron2_name("layer4.2.bn3.bias") == "res5.2.conv3.norm.bias"


def test_the_command_line_exports_a_stage(finished, tmp_path):
    words = finished.invp(
        "export",
        "results/smoke-invp/seed-0/pretrain/stage-2/checkpoint.pt",
        "--to",
        "safetensors",
        "--out",
        str(tmp_path / "e.safetensors"),
    )
    assert "tensors" in words and (tmp_path / "e.safetensors").exists()


def test_the_command_line_inspects_graph_data_and_checkpoint(finished, tmp_path):
    run_folder = "results/smoke-invp/seed-0"
    words = finished.invp("inspect", "graph", f"{run_folder}/graph/stage-2", "--anchor", "17", "--sheet", str(tmp_path / "a.png"))
    assert "step 1 of the walk: 4 images" in words and (tmp_path / "a.png").stat().st_size > 1000
    for arguments in (["--hubs"], ["--path", "1", "2"], ["--confused", "8", "1"], ["--compare", f"{run_folder}/graph/stage-1"], []):
        assert finished.invp("inspect", "graph", f"{run_folder}/graph/stage-2", *arguments)
    words = finished.invp("inspect", "graph", f"{run_folder}/graph/stage-2", "--anchor", "5000", expect=2)
    assert "there is no image 5000" in words and "Traceback" not in words
    sheet = ["--experiment", "config/experiments/smoke-invp.yaml", "--sheet", str(tmp_path / "d.png")]
    assert "1,437 images" in finished.invp("inspect", "data", "results/datasets/digits/train", *sheet)
    assert (tmp_path / "d.png").stat().st_size > 1000
    assert "bank" in finished.invp("inspect", "checkpoint", f"{run_folder}/pretrain/stage-2/checkpoint.pt")
