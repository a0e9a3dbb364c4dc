import copy

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from timm.utils.attention_extract import AttentionExtract

from invp.models.encoders import build_encoder
from invp.plumbing.config import structured
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load
from invp.plumbing.sections import Encoder as EncoderOptions

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
