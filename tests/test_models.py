import pytest
import torch
import torchvision

from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.plumbing.config import structured
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load
from invp.plumbing.sections import Encoder as EncoderOptions
from invp.plumbing.sections import Head


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


def test_the_cifar_stem_keeps_the_resolution():
    encoder = build_encoder(options(name="resnet18", stem="cifar"), 32)
    assert encoder.blocks(torch.zeros(1, 3, 32, 32))[0].shape == (1, 64, 32, 32)
    assert encoder.blocks(torch.zeros(1, 3, 32, 32))[-1].shape == (1, 512, 4, 4)


@pytest.mark.parametrize(("stem", "size"), [("auto", 32), ("cifar", 32), ("imagenet", 8)])
def test_the_small_variant_has_the_stem_asked_for(stem, size):
    encoder = build_encoder(options(name="resnet_small", stem=stem), 32)
    assert encoder.blocks(torch.zeros(1, 3, 32, 32))[0].shape == (1, 16, size, size)


def test_residual_branches_of_the_small_variant_begin_at_zero_if_asked():
    encoder = build_encoder(options(name="resnet_small", zero_init_residual=True), 16)
    assert all(not block.bn2.weight.any() for layer in (encoder.layer1, encoder.layer2, encoder.layer3) for block in layer)


@pytest.mark.parametrize("values", [
    {"name": "pixels", "stem": "cifar"}, {"name": "pixels", "norm": "group"}, {"name": "pixels", "zero_init_residual": True},
    {"name": "resnet18", "width": 8}, {"name": "resnet50", "blocks": 2},
])  # fmt: skip
def test_an_option_that_the_encoder_has_no_use_for_is_refused(values):
    key = list(values)[1]
    with pytest.raises(UserError, match=f"{key} is .*, which {values['name']} has no use for; valid with: resnet_small"):
        options(**values)


def test_the_small_variant_is_not_run_on_photographs_at_full_resolution_by_accident(tmp_path):
    (tmp_path / "own.yaml").write_text("extends: digits-invp\naugmentation: {size: 224}\n")
    with pytest.raises(
        UserError, match="own.yaml: encoder.stem is 'auto'.*augmentation.size is 224; valid above 64 px: imagenet, or cifar"
    ):
        load(tmp_path / "own.yaml")
    for stem in ("imagenet", "cifar"):
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
