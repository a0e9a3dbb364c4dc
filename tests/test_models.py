import subprocess
import sys

import pytest
import torch
import torchvision

from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.plumbing.config import structured
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load
from invp.plumbing.files import canonical_json
from invp.plumbing.sections import Encoder as EncoderOptions
from invp.plumbing.sections import Head, network_section
from invp.steps import pretrain
from invp.training.checkpoint import load_network, save_checkpoint
from invp.training.encoder import load_encoder
from invp.training.loop import build_objective
from tests.conftest import ROOT


def training_of(experiment: dict) -> dict:
    return pretrain.section({"loaded": {"one": experiment}}, experiment="one", seed=0, stage=1)


def options(**values):
    return structured(EncoderOptions, values, "test")


@pytest.mark.parametrize("name, blocks, features", [("resnet18", 9, 512), ("resnet50", 17, 2048)])
def test_an_encoder_is_torchvisions_resnet_without_its_classifier(name, blocks, features):
    encoder = build_encoder(options(name=name), 64).eval()
    reference = getattr(torchvision.models, name)().eval()
    reference.load_state_dict(encoder.state_dict(), strict=False)
    reference.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(encoder(images), reference(images))
        maps = encoder.blocks(images)
    assert len(maps) == len(encoder.block_names) == blocks
    assert encoder.num_features == features
    torch.testing.assert_close(maps[-1].mean((2, 3)), encoder(images))


@pytest.mark.parametrize(("stem", "first", "last"), [("cifar", 32, 4), ("stride2", 16, 2), ("imagenet", 8, 1)])
def test_a_stem_keeps_the_resolution_that_it_says(stem, first, last):
    encoder = build_encoder(options(name="resnet18", stem=stem), 32)
    assert encoder.blocks(torch.zeros(2, 3, 32, 32))[0].shape == (2, 64, first, first)
    assert encoder.blocks(torch.zeros(2, 3, 32, 32))[-1].shape == (2, 512, last, last)


@pytest.mark.parametrize(("stem", "size"), [("auto", 32), ("cifar", 32), ("stride2", 16), ("imagenet", 8)])
def test_the_small_variant_has_the_stem_asked_for(stem, size):
    encoder = build_encoder(options(name="resnet_small", stem=stem), 32)
    assert encoder.blocks(torch.zeros(1, 3, 32, 32))[0].shape == (1, 16, size, size)


def test_residual_branches_of_the_small_variant_begin_at_zero_if_asked():
    encoder = build_encoder(options(name="resnet_small", zero_init_residual=True), 16)
    assert all(not block.bn2.weight.any() for layer in (encoder.layer1, encoder.layer2, encoder.layer3) for block in layer)


@pytest.mark.parametrize("values", [
    {"name": "pixels", "stem": "cifar"}, {"name": "pixels", "norm": "group"}, {"name": "pixels", "zero_init_residual": True},
    {"name": "resnet18", "width": 8}, {"name": "resnet50", "blocks": 2}, {"name": "pixels", "input": "l"},
])  # fmt: skip
def test_an_option_that_the_encoder_has_no_use_for_is_refused(values):
    key = list(values)[1]
    with pytest.raises(UserError, match=f"{key} is .*, which {values['name']} has no use for; valid with: resnet_small"):
        options(**values)


def test_the_small_variant_is_not_run_on_photographs_at_full_resolution_by_accident(tmp_path):
    (tmp_path / "own.yaml").write_text("extends: digits-invp\naugmentation: {size: 224}\n")
    with pytest.raises(
        UserError,
        match="own.yaml: encoder.stem is 'auto'.*augmentation.size is 224; valid above 64 px: imagenet, stride2, or cifar",
    ):
        load(tmp_path / "own.yaml")
    for stem in ("imagenet", "stride2", "cifar"):
        (tmp_path / "own.yaml").write_text(f"extends: digits-invp\naugmentation: {{size: 224}}\nencoder: {{stem: {stem}}}\n")
        assert load(tmp_path / "own.yaml")["encoder"]["stem"] == stem


def test_the_small_variant_has_the_width_and_depth_asked_for():
    encoder = build_encoder(options(name="resnet_small", width=8, blocks=2), 16)
    assert [m.shape[1] for m in encoder.blocks(torch.zeros(1, 3, 16, 16))] == [8, 8, 8, 16, 16, 32, 32]
    assert encoder(torch.zeros(2, 3, 16, 16)).shape == (2, encoder.num_features) == (2, 32)


def test_convolutions_start_kaiming_fan_out_and_linear_layers_xavier():
    torch.manual_seed(0)
    encoder = build_encoder(options(name="resnet18"), 64)
    weight = encoder.layer3[0].conv1.weight
    assert weight.std().item() == pytest.approx((2 / (weight.shape[0] * 9)) ** 0.5, rel=0.02)
    head = build_head(structured(Head, {"kind": "mlp"}, "test"), 512)
    assert head[0].weight.abs().max().item() == pytest.approx((6 / 1024) ** 0.5, rel=0.01)
    assert not head[0].bias.any() and not head[2].bias.any()
    assert [type(m).__name__ for m in head] == ["Linear", "ReLU", "Linear"]


def test_group_norm_has_no_batch_statistics():
    encoder = build_encoder(options(name="resnet_small", norm="group"), 16)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in encoder.modules())


def test_pixels_are_the_image():
    images = torch.randn(2, 3, 8, 8)
    encoder = build_encoder(options(name="pixels"), 8)
    assert torch.equal(encoder(images), images.flatten(1)) and encoder.num_features == 192


@pytest.mark.parametrize("values", [{"name": "resnet19"}, {"name": "resnet18", "stem": "x"}, {"name": "resnet18", "norm": "x"}])
def test_an_unknown_word_is_a_clear_error(values):
    with pytest.raises(UserError, match="valid"):
        build_encoder(options(**values), 32)


NORMALISED = {"mean": [0.4, 0.5, 0.3], "std": [0.2, 0.3, 0.25]}


def images_of(pixels: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(NORMALISED[key])[:, None, None] for key in ("mean", "std"))
    return (pixels - mean) / std


def lab_of(pixels: torch.Tensor) -> torch.Tensor:
    """CIE's definition for sRGB and D65, in 64 bits."""
    linear = pixels.double()
    linear = torch.where(linear > 0.04045, ((linear + 0.055) / 1.055) ** 2.4, linear / 12.92)
    to_xyz = torch.tensor([[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]).double()
    x, y, z = torch.einsum("ij,bjhw->ibhw", to_xyz, linear) / torch.tensor([0.95047, 1, 1.08883]).double().view(3, 1, 1, 1)
    x, y, z = (torch.where(v > 0.008856, v.clamp(min=0) ** (1 / 3), 7.787 * v + 16 / 116) for v in (x, y, z))
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], 1).float()


PICTURES = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("values", [{"name": "resnet_small"}, {"name": "resnet_small", "input": "l+ab"}, {"name": "pixels"}])
def test_an_encoder_gives_the_pixels_of_normalised_images_back(values):
    encoder = build_encoder(options(**values), 16, **NORMALISED)
    torch.testing.assert_close(encoder.pixels(images_of(PICTURES)), PICTURES)
    assert not {"mean", "std"} & set(encoder.state_dict()), "no checkpoint holds them"


def test_lightness_alone_is_seen_by_every_way_into_the_network():
    encoder = build_encoder(options(name="resnet_small", input="l"), 16, **NORMALISED).eval()
    plain = build_encoder(options(name="resnet_small"), 16, **NORMALISED).eval()
    plain.load_state_dict(encoder.state_dict())
    grey = images_of(lab_of(PICTURES)[:, :1].expand(-1, 3, -1, -1) / 100)
    torch.testing.assert_close(encoder(images_of(PICTURES)), plain(grey), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(encoder.blocks(images_of(PICTURES))[-1], plain.blocks(grey)[-1], rtol=1e-3, atol=1e-4)


def test_lightness_and_colours_are_seen_by_a_network_each():
    encoder = build_encoder(options(name="resnet_small", input="l+ab"), 16, **NORMALISED).eval()
    assert encoder.num_features == 64 and encoder.light.conv1.weight.shape[:2] == (8, 1)
    assert encoder.colour.conv1.weight.shape[:2] == (8, 2)
    images = images_of(PICTURES)
    lightness, colours = encoder.planes(images)
    expected = lab_of(PICTURES)
    torch.testing.assert_close(lightness[:, 0], expected[:, 0] / 50 - 1, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close((colours[:, 0] + 1) / 2 * (98.233 + 86.183) - 86.183, expected[:, 1], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close((colours[:, 1] + 1) / 2 * (94.478 + 107.857) - 107.857, expected[:, 2], rtol=1e-4, atol=1e-3)
    assert torch.equal(encoder(images), torch.cat([encoder.light(lightness), encoder.colour(colours)], 1))
    maps = encoder.blocks(images)
    assert len(maps) == len(encoder.block_names) and maps[-1].shape[1] == encoder.num_features
    torch.testing.assert_close(maps[-1].mean((2, 3)), encoder(images))


@pytest.mark.parametrize(
    ("name", "share", "features"), [("resnet18", 0.5, 2 * 256), ("resnet50", 0.25, 2 * 512), ("resnet18", 1.0, 2 * 512)]
)
def test_the_two_networks_have_their_share_of_the_channels(name, share, features):
    encoder = build_encoder(options(name=name, input="l+ab", width_share=share), 32)
    assert encoder(torch.rand(2, 3, 32, 32)).shape == (2, encoder.num_features) == (2, features)


@pytest.mark.parametrize(("values", "message"), [
    ({"width_share": 0.25}, "width_share is 0.25, which input rgb has no use for"),
    ({"input": "l+ab", "width_share": 0.3}, "width_share is 0.3; valid: a share that leaves whole channels, not 4.8"),
    ({"input": "l+ab", "width_share": 0.25, "norm": "group"}, "width_share is 0.25; valid with norm: group: a multiple of 8 channels"),
])  # fmt: skip
def test_a_share_that_leaves_no_network_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        options(name="resnet_small", **values)


@pytest.mark.parametrize("of", ["network", "encoder"])
def test_what_was_trained_on_lightness_is_given_lightness_wherever_it_is_loaded(tmp_path, of):
    experiment = load(ROOT / "config" / "experiments" / "smoke-invp.yaml")
    experiment["encoder"]["input"] = "l"
    section = training_of(experiment)
    objective = build_objective(section, 1437).eval()
    state = {"objective": objective.state_dict(), "section": canonical_json(section)}
    save_checkpoint(state, tmp_path / "checkpoint.pt")
    loaded = (
        load_network(network_section(experiment), tmp_path / "checkpoint.pt")[0]
        if of == "network"
        else load_encoder(tmp_path / "checkpoint.pt")
    )
    images = torch.randn(2, 3, 8, 8)
    assert torch.equal(loaded(images), objective.encoder(images))
    assert torch.equal(loaded.pixels(images), objective.encoder.pixels(images))


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny"])
def test_an_encoder_does_without_torchs_compiler_which_region_pooling_gets_when_it_asks(name):
    """In a fresh process; the compiler takes longer to import than all else of torchvision, and than timm."""
    program = f"""
import sys
import torch
from dataclasses import asdict
from invp.models.encoders import build_encoder
from invp.plumbing.encoder_options import Encoder

disable = torch.compiler.disable
build_encoder(asdict(Encoder({name!r})), 32)
assert "torchvision" in sys.modules and "torch._dynamo" not in sys.modules and torch.compiler.disable is disable
from torchvision.ops import roi_align

assert roi_align.__globals__["is_compile_supported"]("cpu") in (True, False)
assert "torch._dynamo.eval_frame" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True)
