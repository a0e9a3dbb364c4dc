import pickle
from argparse import Namespace

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from invp.models.encoders import build_encoder
from invp.plumbing.config import structured
from invp.plumbing.errors import UserError
from invp.plumbing.files import canonical_json
from invp.plumbing.sections import Encoder as EncoderOptions
from invp.tools.export import detectron2_name, run
from invp.training.checkpoint import load_encoder


@pytest.fixture
def checkpoint(tmp_path):
    options = structured(EncoderOptions, {"name": "resnet18"}, "test")
    encoder = build_encoder(options, 64).eval()
    section = canonical_json({"encoder": options, "augmentation": {"size": 64}})
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    torch.save({"objective": state | {"bank": torch.zeros(4, 8)}, "section": section}, tmp_path / "checkpoint.pt")
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


def test_safetensors_and_load_encoder(checkpoint, tmp_path):
    path, encoder = checkpoint
    export(path, "safetensors", tmp_path / "w.safetensors")
    assert load_file(tmp_path / "w.safetensors").keys() == encoder.state_dict().keys()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(features(load_encoder(path), images), features(encoder, images))


def test_timm_loads_it_and_computes_the_same(checkpoint, tmp_path):
    timm = pytest.importorskip("timm")
    path, encoder = checkpoint
    export(path, "timm", tmp_path / "w.pth")
    network = timm.create_model("resnet18", pretrained=False, num_classes=0)
    network.load_state_dict(torch.load(tmp_path / "w.pth", weights_only=True))
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(features(network, images), features(encoder, images))


def test_onnx_runs_elsewhere_with_any_batch(checkpoint, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    path, encoder = checkpoint
    export(path, "onnx", tmp_path / "w.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "w.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 5):
        images = torch.randn(count, 3, 64, 64)
        found = session.run(["features"], {"images": images.numpy()})[0]
        torch.testing.assert_close(torch.from_numpy(found), features(encoder, images), atol=1e-3, rtol=1e-3)


def test_networks_that_timm_does_not_have_are_refused(tmp_path):
    options = structured(EncoderOptions, {"name": "resnet18", "stem": "cifar"}, "test")
    encoder = build_encoder(options, 32)
    section = canonical_json({"encoder": options, "augmentation": {"size": 32}})
    state = {f"encoder.{k}": v for k, v in encoder.state_dict().items()}
    torch.save({"objective": state, "section": section}, tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="stem cifar.*timm has no such network"):
        export(tmp_path / "checkpoint.pt", "timm", tmp_path / "w.pth")


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
