import pytest
import torch
import torchvision
from safetensors.torch import save_file

from invp.models.encoders import build_encoder
from invp.models.weights import load_weights
from invp.plumbing.config import structured
from invp.plumbing.errors import UserError
from invp.plumbing.files import sha256_of
from invp.plumbing.sections import Encoder as EncoderOptions


def encoder_of(name="resnet18"):
    return build_encoder(structured(EncoderOptions, {"name": name}, "test"), 64).eval()


def given(path) -> dict:
    return {"file": str(path), "prefix": "", "sha256": sha256_of(path) if path.exists() else "0" * 64}


@pytest.fixture(scope="module")
def reference():
    torch.manual_seed(3)
    return torchvision.models.resnet18().eval()


def renamed(state, kind):
    if kind == "torchvision":
        return state
    if kind == "moco":
        return {"state_dict": {f"module.encoder_q.{k}": v for k, v in state.items()}}
    places = {"conv1": "0", "bn1": "1", "layer1": "4", "layer2": "5", "layer3": "6", "layer4": "7"}
    parts = {k: k.partition(".") for k in state}
    return {f"backbone.{places[parts[k][0]]}.{parts[k][2]}": v for k, v in state.items() if parts[k][0] in places}


@pytest.mark.parametrize("kind", ["torchvision", "moco", "lightly"])
def test_known_files_give_the_network_that_they_hold(kind, reference, tmp_path):
    torch.save(renamed(reference.state_dict(), kind), tmp_path / "w.pth")
    encoder = encoder_of()
    load_weights(encoder, given(tmp_path / "w.pth"))
    images = torch.randn(2, 3, 64, 64)
    network = torchvision.models.resnet18().eval()
    network.load_state_dict(reference.state_dict())
    network.fc = torch.nn.Identity()
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), network(images))


def test_safetensors(reference, tmp_path):
    save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, tmp_path / "w.safetensors")
    encoder = encoder_of()
    load_weights(encoder, given(tmp_path / "w.safetensors"))
    assert torch.equal(encoder.conv1.weight, reference.conv1.weight)


def test_what_does_not_fit_is_named(reference, tmp_path):
    torch.save(reference.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match="lacks .* e.g. "):
        load_weights(encoder_of("resnet50"), given(tmp_path / "w.pth"))
    with pytest.raises(UserError, match="does not exist"):
        load_weights(encoder_of(), given(tmp_path / "none.pth"))
    with pytest.raises(UserError, match="the experiment names 0000"):
        load_weights(encoder_of(), given(tmp_path / "w.pth") | {"sha256": "0" * 64})


def test_a_file_with_code_in_it_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="evil.pth holds .*print, which would run code"):
        load_weights(encoder_of(), given(tmp_path / "evil.pth"))


class Network(torch.nn.Module):
    """A whole network, pickled with its class, as many files hold one."""


@pytest.mark.parametrize("kind", ["network", "program", "cut", "words", "safetensors"])
def test_what_is_no_file_of_tensors_is_refused_in_our_own_words(kind, reference, tmp_path):
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    words = {"network": r"holds test_weights.Network, which would run code when it is read, and is refused: write the tensors alone",
             "program": "holds a TorchScript program, which would run code"}.get(kind, "is damaged, or no")  # fmt: skip
    if kind == "network":
        torch.save(Network(), path)
    elif kind == "program":
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), path)
    elif kind == "cut":
        torch.save(reference.state_dict(), path)
        path.write_bytes(path.read_bytes()[:5000])
    else:
        path.write_bytes(b"no tensors at all")
    with pytest.raises(UserError, match=f"^weights.file: .*{path.name} {words}") as caught:
        load_weights(encoder_of(), given(path))
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)
