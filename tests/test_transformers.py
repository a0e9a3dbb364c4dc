import copy
import json
import math
from argparse import Namespace
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from timm.models.vision_transformer import VisionTransformer
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from timm.utils.attention_extract import AttentionExtract

from invp.data.shards import Shards
from invp.evals import _finetune, _segmenter, transfer
from invp.figures import attention, patch_components
from invp.models.encoders import build_encoder
from invp.models.weights import load_weights, mapped
from invp.plumbing.config import instance, plugin_options, structured
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load
from invp.plumbing.files import canonical_json, sha256_of
from invp.plumbing.sections import Augmentation, Training
from invp.plumbing.sections import Encoder as EncoderOptions
from invp.tools import export
from invp.tools._operations import operations_of
from invp.training.encoder import load_encoder
from invp.training.optim import build_optimizer
from tests.evals.networks import encoder_inputs

SMALL = {"name": "vit_tiny", "token_width": 24, "depth": 2, "patch": 2}


def options(**values):
    return structured(EncoderOptions, SMALL | values, "test")


def small(size: int = 8, seed: int = 0, **values):
    torch.manual_seed(seed)
    return build_encoder(options(**values), size)


def images(count: int = 3, size: int = 8) -> torch.Tensor:
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def timm_twin(encoder, size: int = 8, **values):
    """timm's own network with an encoder's weights, from its plain names."""
    twin = VisionTransformer(
        img_size=size, patch_size=2, embed_dim=24, depth=2, num_heads=3, num_classes=0, reg_tokens=encoder.prefix - 1, **values
    )
    twin.load_state_dict(encoder.vit.state_dict())
    return twin.eval()


@pytest.mark.parametrize(("name", "width", "heads"), [("vit_tiny", 192, 3), ("vit_small", 384, 6), ("vit_base", 768, 12)])
def test_a_name_has_its_published_shape(name, width, heads):
    with torch.device("meta"):
        encoder = build_encoder(structured(EncoderOptions, {"name": name}, "test"), 224)
    assert (encoder.num_features, len(encoder.vit.blocks), encoder.vit.blocks[0].attn.num_heads) == (width, 12, heads)
    assert encoder.vit.patch_embed.grid_size == (14, 14)


@pytest.mark.parametrize("values", [{}, {"registers": 2}, {"positions": "sincos"}])
def test_tokens_maps_and_attention_are_timms(values):
    encoder = small(**values).eval()
    twin, given = timm_twin(encoder), images()
    extracted = AttentionExtract(copy.deepcopy(twin), method="hook")
    for block in extracted.model.blocks:
        block.attn.fused_attn = False  # else its hook sees nothing
    with torch.no_grad():
        tokens = encoder.tokens(given)
        torch.testing.assert_close(tokens, twin.forward_features(given))
        torch.testing.assert_close(encoder(given), twin(given))
        for own, theirs in zip(encoder.blocks(given), twin.forward_intermediates(given, intermediates_only=True), strict=True):
            torch.testing.assert_close(own, theirs)
        attention = encoder.attention(given)
        torch.testing.assert_close(attention, extracted(given)["blocks.1.attn.attn_drop"])
        torch.testing.assert_close(small(pool="mean", **values).eval()(given), tokens[:, encoder.prefix :].mean(1))
    torch.testing.assert_close(attention.sum(3), torch.ones(attention.shape[:3]))
    assert encoder.block_names == ["block0", "block1"]
    assert tokens.shape == (3, encoder.prefix + 16, 24)


def test_hidden_patches_change_nothing_of_what_is_seen():
    encoder, given = small(registers=1).eval(), images()
    keep = torch.stack([torch.randperm(16, generator=torch.Generator().manual_seed(i))[:5] for i in range(3)])
    with torch.no_grad():
        seen = encoder.tokens(given, keep)
        blind = given.clone()
        for image, kept in zip(blind, keep.tolist(), strict=True):
            for hidden in set(range(16)) - set(kept):
                row, column = divmod(hidden, 4)
                image[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 99
        torch.testing.assert_close(encoder.tokens(blind, keep), seen)
        everything = torch.randperm(16, generator=torch.Generator().manual_seed(5)).expand(3, -1)
        shuffled, whole = encoder.tokens(given, everything), encoder.tokens(given)
    assert seen.shape == (3, 1 + 1 + 5, 24)
    torch.testing.assert_close(shuffled[:, 2:], whole[:, 2:][:, everything[0]])  # patches in the order of `keep`
    torch.testing.assert_close(shuffled[:, :2], whole[:, :2])


def test_masked_patches_are_the_mask_token_at_their_place():
    encoder, given = small().eval(), images()
    masked, token = torch.rand(3, 16, generator=torch.Generator().manual_seed(2)) < 0.4, torch.randn(24)
    with torch.no_grad():
        found = encoder.tokens(given, masked=masked, mask_token=token)
        patches = encoder.vit.patch_embed(given).flatten(1, 2)
        patches[masked] = token
        tokens = torch.cat([encoder.vit.cls_token.expand(3, -1, -1), patches], 1) + encoder.vit.pos_embed
        torch.testing.assert_close(found, encoder.vit.norm(encoder.vit.blocks(tokens)))
        assert not torch.allclose(found, encoder.tokens(given))


def test_crops_of_another_size_have_resampled_positions():
    encoder, given = small(16).eval(), images(size=8)
    with torch.no_grad():
        twin = timm_twin(encoder, 16, dynamic_img_size=True)
        torch.testing.assert_close(encoder.tokens(given), twin.forward_features(given))
        keep = torch.arange(4).expand(3, -1)
        assert encoder.tokens(given, keep).shape == (3, 5, 24)
        assert encoder.blocks(given[:, :, :4])[-1].shape == (3, 24, 2, 4)
    with pytest.raises(UserError, match="images of 8 x 7 pixels; valid: multiples of encoder.patch, 2"):
        encoder(given[..., :7])


def test_fixed_positions_and_frozen_patches_have_no_gradient():
    encoder = small(positions="sincos", freeze_patches=True)
    encoder(images()).sum().backward()
    without = {name for name, parameter in encoder.vit.named_parameters() if parameter.grad is None}
    assert without == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}
    positions = encoder.vit.pos_embed[0]
    assert not positions[0].any()
    rows = torch.arange(16) // 4
    torch.testing.assert_close(positions[1:, 0], rows.float().sin())  # of frequency 1


def test_dropped_paths_are_those_of_the_image_whatever_the_batch_and_scaled_by_how_often_they_stay():
    encoder, given = small(drop_path=0.5).train(), images(64)
    torch.manual_seed(0)
    found = encoder(given)
    torch.manual_seed(1)
    torch.testing.assert_close(encoder(given.flip(0)).flip(0), found)  # no random state, no place in the batch
    assert torch.get_rng_state().equal(torch.Generator().manual_seed(1).get_state())
    with torch.no_grad():
        tokens = encoder._embedded(given, None, None, None)
        first, second = encoder._after_blocks(given, tokens)
        torch.testing.assert_close(first, encoder.vit.blocks[0](tokens))  # the first block's rate is 0
        block = encoder.vit.blocks[1]
        attended = block.attn(block.norm1(first))
        seen = set()
        for image in range(64):
            fits = []
            for one in (0.0, 2.0):
                middle = first[image] + one * attended[image]
                for other in (0.0, 2.0):
                    fits += (
                        [(one, other)]
                        if torch.allclose(second[image], middle + other * block.mlp(block.norm2(middle)), atol=1e-5)
                        else []
                    )
            assert len(fits) == 1
            seen |= set(fits)
        assert len(seen) == 4
        encoder.drop_path = 0.0
        torch.testing.assert_close(encoder(given), encoder.eval()(given))


def test_lightness_is_what_the_patches_are_projected_of():
    encoder, given = small(input="l").eval(), images()
    grey = encoder.seen(given)
    with torch.no_grad():
        torch.testing.assert_close(encoder(given), timm_twin(encoder)(grey.expand(-1, 3, -1, -1)))


def test_16_bits_give_features_of_the_images_type():
    encoder = small().eval()
    encoder.bf16 = True
    with torch.no_grad():
        found = encoder(images())
        assert found.dtype == encoder.blocks(images())[0].dtype == torch.float32
        encoder.bf16 = False
        assert 0 < (found - encoder(images())).abs().max() < 0.1


@pytest.mark.parametrize(("values", "message"), [
    ({"norm": "group"}, "norm is 'group', which vit_tiny has no use for; valid with: resnet_small"),
    ({"stem": "cifar"}, "stem is 'cifar', which vit_tiny has no use for"),
    ({"input": "l+ab"}, "input is 'l.ab', which vit_tiny has no use for"),
    ({"name": "resnet18", "token_width": 0, "depth": 0}, "patch is 2, which resnet18 has no use for; valid with: vit_tiny, vit_small"),
    ({"token_width": 25}, "token_width is 25; valid: a multiple of vit_tiny's 3 heads"),
    ({"token_width": 6, "positions": "sincos"}, "token_width is 6; valid: .*and of 4 with positions: sincos"),
])  # fmt: skip
def test_options_that_do_not_fit_are_refused(values, message):
    with pytest.raises(UserError, match=message):
        options(**values)


def test_patches_that_do_not_divide_images_are_refused_when_a_study_is_read(tmp_path):
    (tmp_path / "own.yaml").write_text("extends: digits-invp\nencoder: {name: vit_tiny, patch: 3}\n")
    with pytest.raises(UserError, match="own.yaml: encoder.patch is 3; valid: what divides the side of the images, 8"):
        load(tmp_path / "own.yaml")
    (tmp_path / "own.yaml").write_text(
        "extends: digits-swav\nencoder: {name: vit_tiny, patch: 4}\nviews: [{count: 2}, {size: 6, count: 4}]\n"
    )
    with pytest.raises(UserError, match="own.yaml: encoder.patch is 4; valid: what divides the side of the images, 6"):
        load(tmp_path / "own.yaml")


def test_sections_of_resnets_are_those_of_before_there_were_transformers(tmp_path):
    (tmp_path / "own.yaml").write_text("extends: digits-invp\nencoder: {name: vit_tiny, patch: 4}\n")
    (tmp_path / "other.yaml").write_text("extends: digits-invp\n")
    assert load(tmp_path / "own.yaml")["encoder"]["patch"] == 4
    assert list(load(tmp_path / "other.yaml")["encoder"]) == [
        "name", "stem", "norm", "width", "blocks", "zero_init_residual", "input", "width_share"
    ]  # fmt: skip


@pytest.fixture
def checkpoint(tmp_path):
    encoder = small(registers=1).eval()
    section = {"encoder": options(registers=1), "augmentation": {"size": 8, "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}
    state = {f"encoder.{name}": value for name, value in encoder.state_dict().items()} | {"bank": torch.zeros(4, 8)}
    saved = {"objective": state, "section": canonical_json(section), "dataset": {"classes": ["a", "b"], "format": "uint8"}}
    torch.save(saved, tmp_path / "checkpoint.pt")
    return tmp_path / "checkpoint.pt", encoder


@pytest.mark.parametrize("kind", ["checkpoint", "timm", "safetensors"])
def test_timm_reads_exports_and_we_read_what_we_wrote(kind, checkpoint, tmp_path):
    path, encoder = checkpoint
    out = tmp_path / {"checkpoint": "checkpoint.pt", "timm": "w.pth", "safetensors": "w.safetensors"}[kind]
    if kind != "checkpoint":
        export.run(Namespace(checkpoint=path, to=kind, out=out))
    with torch.no_grad():
        expected = encoder(images())
        assert torch.equal(load_encoder(out)(images()), expected)
        other = small(seed=1, registers=1).eval()
        assert not torch.equal(other(images()), expected)
        load_weights(other, {"file": str(out), "prefix": "", "sha256": sha256_of(out)})
        assert torch.equal(other(images()), expected)
        if kind == "timm":
            twin = timm_twin(small(seed=2, registers=1))
            twin.load_state_dict(torch.load(out, weights_only=True))
            torch.testing.assert_close(twin(images()), expected)


def test_formats_that_know_no_transformer_are_refused(checkpoint, tmp_path):
    for kind in ("torchvision", "detectron2"):
        with pytest.raises(
            UserError, match=f"holds vit_tiny, of whose tensors {kind} knows no names; use timm, safetensors or onnx"
        ):
            export.run(Namespace(checkpoint=checkpoint[0], to=kind, out=tmp_path / "w"))


def test_a_list_of_modules_is_no_resnet_to_a_transformer():
    """Of a ResNet, a first name 0 is its first convolution; a transformer has none."""
    state = {"0.weight": torch.zeros(1), "vit.0.weight": torch.ones(1), "vit.norm.bias": torch.ones(2)}
    assert mapped(state, ["0.weight", "norm.bias"], "vit.").keys() == {"0.weight", "norm.bias"}
    assert mapped(state, ["conv1.weight"], "").keys() == {"conv1.weight"}


def test_of_given_weights_other_positions_are_refused(tmp_path):
    torch.save(small(16).vit.state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"pos_embed has shape \(1, 65, 24\), the encoder \(1, 17, 24\)"):
        load_weights(small(), {"file": str(tmp_path / "w.pth"), "prefix": "", "sha256": sha256_of(tmp_path / "w.pth")})


@pytest.mark.slow
def test_onnx_runs_elsewhere_with_any_batch(checkpoint, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    export.run(Namespace(checkpoint=checkpoint[0], to="onnx", out=tmp_path / "w.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "w.onnx", providers=["CPUExecutionProvider"])
    for count in (1, 5):
        (found,) = session.run(None, {"images": images(count).numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(found), checkpoint[1](images(count)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_rates_by_depth_are_timms(optimizer):
    encoder = small(registers=1)
    network = _finetune.Classifier(encoder, 5)
    config = _finetune.Schedule(optimizer=optimizer, layer_decay=0.7)
    groups = _finetune._optimizer(network, config, 0.1, 0.05).param_groups
    twin = VisionTransformer(img_size=8, patch_size=2, embed_dim=24, depth=2, num_heads=3, num_classes=5, reg_tokens=1)
    spared = twin.no_weight_decay() if optimizer == "adamw" else ()
    theirs = param_groups_layer_decay(
        twin, 0.05, spared, layer_decay=0.7, weight_decay_exclude_1d=optimizer == "adamw"
    )  # fmt: skip
    names = {id(p): name.removeprefix("encoder.vit.").replace("classifier.", "head.") for name, p in network.named_parameters()}
    own = {names[id(p)]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    expected = {
        name: (0.1 * g["lr_scale"], g["weight_decay"])
        for g in theirs
        for p in g["params"]
        for name, q in twin.named_parameters()
        if q is p
    }
    assert own.keys() == expected.keys()
    for name, values in expected.items():
        assert own[name] == pytest.approx(values), name


def test_fine_tuning_warms_up_and_learns(digits):
    inputs = encoder_inputs(digits)
    inputs.encoder = small()
    config = _finetune.Schedule(
        epochs=6,
        batch_size=32,
        optimizer="adamw",
        layer_decay=0.8,
        warmup_epochs=1.5,
        momentum=0.9,
        crop_scale=[0.8, 1.0],
        flip=False,
    )
    rates, step = [], torch.optim.AdamW.step
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch.optim.AdamW, "step", lambda self: (rates.append(self.param_groups[-1]["lr"]), step(self))[1])
        _, losses = _finetune.finetuned(
            inputs, Shards(inputs.train), torch.arange(128), config, 0.002, 0.05, seed=0, device="cpu", label="t"
        )
    assert rates[:7] == pytest.approx([0.002 * share for share in (0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1)])
    assert rates[15] == pytest.approx(0.002 * 0.5 * (1 + math.cos(math.pi / 2)))  # half of the 18 steps behind the warm-up
    assert losses[-1] < losses[0] - 0.01
    with pytest.raises(UserError, match="warmup_epochs is 6, and the training has 6 epochs; valid: less"):
        _finetune.finetuned(
            inputs,
            Shards(inputs.train),
            torch.arange(128),
            replace(config, warmup_epochs=6),
            0.1,
            0.0,
            seed=0,
            device="cpu",
            label="t",
        )


@pytest.mark.parametrize(("text", "message"), [
    ("encoder: {name: vit_tiny, patch: 4}\nevaluations: {detection: {dataset: {name: scenes}}}", "evaluations.detection: detection needs a ResNet, and encoder.name is vit_tiny"),
    ("evaluations: {transfer: {layer_decay: 0.5}}", "evaluations.transfer: layer_decay is 0.5, which resnet_small has no use for; valid with: vit_tiny"),
    ("evaluations: {transfer: {optimizer: adamw, momentum: 0.5}}", "momentum is 0.5, which optimizer adamw has no use for; valid with: sgd"),
    ("figures: {attention: {}}", "figures.attention: attention shows patches of a transformer, and encoder.name is resnet_small; valid: vit_tiny"),
    ("figures: {patch-components: {}}", "figures.patch-components: patch-components shows patches of a transformer"),
])  # fmt: skip
def test_what_does_not_apply_is_refused_when_a_study_is_read(text, message, tmp_path):
    (tmp_path / "own.yaml").write_text(f"extends: digits-invp\n{text}\n")
    with pytest.raises(UserError, match=message):
        load(tmp_path / "own.yaml")


def test_options_that_came_later_stand_in_no_section_at_their_default(tmp_path):
    (tmp_path / "own.yaml").write_text(
        "extends: digits-invp\nevaluations: {transfer: {}, other: {name: transfer, optimizer: adamw}}\n"
    )
    own = load(tmp_path / "own.yaml")["evaluations"]
    assert not {"optimizer", "layer_decay", "warmup_epochs"} & own["transfer"].keys()
    assert own["other"].keys() - own["transfer"].keys() == {"optimizer"}
    assert instance(transfer.Config, own["transfer"]).optimizer == "sgd"


def test_segmentation_of_images_that_are_no_whole_patches_fills_them_up():
    encoder = small(16, patch=4).eval()
    torch.manual_seed(0)
    network = _segmenter.Segmenter(encoder, 3, frozen=True, dilation=2, width=8).eval()
    torch.nn.init.normal_(network.head[1].weight)
    given = torch.randn(2, 3, 13, 18)
    with torch.no_grad():
        found = network(given)
        filled = torch.zeros(2, 3, 16, 20)
        filled[:, :, :13, :18] = given
        maps = encoder.blocks(filled)[-1]
        assert maps.shape == (2, 24, 4, 5)
        expected = torch.nn.functional.interpolate(network.head(maps), (16, 20), mode="bilinear")[:, :, :13, :18]
    torch.testing.assert_close(found, expected)
    trained = _segmenter.Segmenter(encoder, 3, frozen=False, dilation=2, width=8)
    trained(given).sum().backward()
    assert trained.encoder.vit.patch_embed.proj.weight.grad.abs().sum() > 0


def test_positions_and_norms_do_not_decay_where_norms_do_not():
    training = structured(Training, {"epochs": 1, "optimizer": "adamw", "decay_norms": False, "weight_decay": 0.1}, "test")
    model = torch.nn.ModuleDict({"encoder": small(registers=1), "head": torch.nn.Linear(24, 4)})
    decaying, spared = build_optimizer(model, training).param_groups
    names = {id(p): name for name, p in model.named_parameters()}
    assert (decaying["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    own = {names[id(p)] for p in spared["params"]}
    twin = param_groups_weight_decay(model["encoder"].vit, 0.1, no_weight_decay_list=model["encoder"].vit.no_weight_decay())
    assert own == {names[id(p)] for p in twin[0]["params"]} | {"head.bias"}


def figure_inputs(encoder, digits, given=None):
    shards = Shards(digits["test"])

    def test_images(numbers):
        return (shards.images(numbers).float().expand(-1, 3, -1, -1) / 255) if given is None else given

    experiment = {"title": "t", "stage": 0, "experiment": "e"}
    return SimpleNamespace(encoder=encoder, test_images=test_images, dataset=digits, experiment=experiment)


def test_attention_is_shown_by_head_with_the_fewest_patches_of_the_mass(digits, tmp_path):
    encoder = small(registers=1).eval()
    torch.nn.init.normal_(encoder.vit.blocks[1].attn.qkv.weight, std=1.0)  # so that heads are no mean of all patches
    inputs = figure_inputs(encoder, digits)
    found = attention.draw(attention.Config(images=2), inputs, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").stat().st_size > 5000
    values = np.array(found["attention"])
    assert values.shape == (2, 3, 16)
    np.testing.assert_allclose(values.sum(2), 1)
    with torch.no_grad():
        whole = encoder.attention(inputs.test_images(torch.tensor(found["images"])))[:, :, 0, 2:]
    np.testing.assert_allclose(values, (whole / whole.sum(2, keepdim=True)).numpy(), rtol=1e-5)
    for image, shares in zip(values, found["mask_share"], strict=True):
        for head, share in zip(image, shares, strict=True):
            fewest = next(n for n in range(1, 17) if sum(sorted(head)[::-1][:n]) >= 0.6)
            assert share * 16 == fewest
    mask = attention.smallest_with(np.array([0.1, 0.3, 0.2, 0.4]), 0.6)
    assert mask.tolist() == [False, True, False, True]
    assert attention.smallest_with(np.array([0.1, 0.3, 0.2, 0.4]), 0.71).sum() == 3


def test_components_are_sklearns_with_the_larger_side_positive():
    rows = np.random.default_rng(0).normal(size=(60, 7)) * np.arange(1, 8)
    rows[0] = 40
    found, shares = patch_components.components(rows, 3)
    pca = PCA(3).fit(rows)
    np.testing.assert_allclose(np.abs(found), np.abs(pca.transform(rows)), atol=1e-9)
    np.testing.assert_allclose(shares, pca.explained_variance_ratio_)
    assert (found.max(0) >= -found.min(0)).all()
    assert patch_components.components(rows[:2], 3)[0][:, 1:].max() < 1e-9  # two patches have one component


def test_two_regions_are_fore_and_background_and_parts_have_colours_of_their_own():
    """A large background, and a small object of two halves: the object is found, and its halves differ in colour."""
    generator = np.random.default_rng(0)
    centres = np.array([[0.0] * 6, [9, 0, 3, 0, 0, 0], [9, 0, -3, 0, 0, 0]])
    kind = np.repeat([0, 1, 2], [60, 15, 15])
    colours, front, shares = patch_components.coloured(centres[kind] + 0.2 * generator.normal(size=(90, 6)), 0.5)
    assert (front == (kind > 0)).all() and not colours[kind == 0].any()
    assert abs(colours[kind == 1, 0].mean() - colours[kind == 2, 0].mean()) > 0.7
    assert shares[0] > 0.9 and shares.sum() < 1
    assert colours.min() == 0 and colours.max() == 1


def test_patch_components_are_of_one_class(digits, tmp_path):
    inputs = figure_inputs(small().eval(), digits)
    found = patch_components.draw(patch_components.Config(label=3, images=5), inputs, tmp_path / "figure.png")
    assert set(Shards(digits["test"]).labels[found["images"]].tolist()) == {3} and found["class"] == "3"
    assert np.array(found["colours"]).shape == (5, 16, 3) and len(found["foreground"]) == 5
    with pytest.raises(UserError, match="label is 12; valid: the number of a class with test images, of 10"):
        patch_components.draw(patch_components.Config(label=12), inputs, tmp_path / "figure.png")


def test_operations_of_a_training_are_counted():
    """Of one block and a head, forward and backward, by the sizes of its products: attention as well."""
    section = {
        "objective": plugin_options("objectives", {"name": "instance_discrimination", "num_negatives": 10}, "t"),
        "encoder": options(depth=1), "head": {"kind": "linear", "dimensions": 16}, "views": [], "weights": None, "graph_stages": [], "seed": 0,
        "augmentation": structured(Augmentation, {"size": 8}, "t"), "training": structured(Training, {"epochs": 1, "batch_size": 4}, "t"),
    }  # fmt: skip
    tokens, width = 17, 24
    block = 2 * tokens * width * (3 * width + width + 8 * width) + 2 * 2 * tokens * tokens * width
    forward = 2 * 16 * 12 * width + block + 2 * width * 16
    assert operations_of(json.dumps(section), 1000) == pytest.approx(3 * forward, rel=0.05)
