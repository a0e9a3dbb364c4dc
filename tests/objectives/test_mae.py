"""MAE: patches, the decoder and the loss against lightly's with copied weights and against loops; what is hidden; pictures."""

import pytest
import torch

from invp.core.patches import patchify, unpatchify
from invp.models.decoders import PatchDecoder
from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.objectives._hidden import hidden_anywhere
from invp.objectives.mae import Config, Objective
from invp.plumbing.config import structured
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load
from invp.plumbing.sections import Encoder

SIZE, PATCH, B = 12, 3, 5
L = (SIZE // PATCH) ** 2
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]
INDEX = torch.tensor([3, 8, 0, 5, 11])


def build(registers: int = 0, **options) -> Objective:
    torch.manual_seed(0)
    kind = {"name": "vit_tiny", "token_width": 24, "depth": 2, "patch": PATCH, "registers": registers}
    encoder = build_encoder(structured(Encoder, kind, "test"), SIZE, mean=MEAN, std=STD)
    config = Config(**({"decoder_width": 16, "decoder_depth": 2, "decoder_heads": 4} | options))
    return Objective(config, encoder, build_head({"kind": "none", "dimensions": 1}, 24), 20, seed=3).double()


def images(seed: int = 0) -> torch.Tensor:
    pixels = torch.rand(B, 3, SIZE, SIZE, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return (pixels - torch.tensor(MEAN, dtype=torch.float64).view(3, 1, 1)) / torch.tensor(STD, dtype=torch.float64).view(3, 1, 1)


def test_patches_equal_loops_and_lightlys_and_go_back():
    given = images()
    patches = patchify(given, PATCH)
    for number in range(L):
        row, column = divmod(number, SIZE // PATCH)
        part = given[:, :, PATCH * row : PATCH * (row + 1), PATCH * column : PATCH * (column + 1)]
        expected = [part[:, c, i, j] for i in range(PATCH) for j in range(PATCH) for c in range(3)]
        assert torch.equal(patches[:, number], torch.stack(expected, 1))
    assert torch.equal(unpatchify(patches, PATCH), given)
    utils = pytest.importorskip("lightly.models.utils", reason="lightly is not installed")
    assert torch.equal(patches, utils.patchify(given, PATCH)) and torch.equal(utils.unpatchify(patches, PATCH), given)


@pytest.mark.parametrize("norm_pix", [True, False])
def test_the_loss_and_the_error_of_pixels_equal_loops(norm_pix):
    objective, given = build(norm_pix=norm_pix), images()
    output = objective([given], INDEX, 2)
    order = hidden_anywhere(INDEX, L, seed=3, epoch=2)
    predictions, patches = objective.predictions(given, order), patchify(given, PATCH)
    losses, errors = [], []
    for image in range(B):
        for number in order[image, 4:].tolist():  # a quarter of sixteen is seen
            true, guess = patches[image, number], predictions[image, number]
            mean, deviation = true.mean(), ((true - true.mean()).square().sum() / (len(true) - 1) + 1e-6).sqrt()
            target = (true - mean) / deviation if norm_pix else true
            losses.append((guess - target).square().mean())
            made = guess * deviation + mean if norm_pix else guess
            scale = torch.tensor(STD, dtype=torch.float64).repeat(PATCH * PATCH)
            shift = torch.tensor(MEAN, dtype=torch.float64).repeat(PATCH * PATCH)
            errors.append(((made * scale + shift).clamp(0, 1) - (true * scale + shift)).square().mean())
    torch.testing.assert_close(output["loss"], torch.stack(losses).mean())
    torch.testing.assert_close(output["metrics"]["pretext_error"], torch.stack(errors).mean().detach(), rtol=1e-6, atol=0)
    assert output["memory"] == {} and len(losses) == 12 * B


def test_it_equals_lightlys_encoder_decoder_and_loss_with_the_same_weights():
    modules = pytest.importorskip("lightly.models.modules", reason="lightly is not installed")
    objective, given = build(norm_pix=False), images()
    ours = objective([given], INDEX, 1)["loss"]
    vit = modules.MaskedVisionTransformerTIMM(objective.encoder.vit, weight_initialization="skip", pos_embed_initialization="skip")
    theirs = modules.MAEDecoderTIMM(
        num_patches=L, patch_size=PATCH, embed_dim=24, decoder_embed_dim=16, decoder_depth=2, decoder_num_heads=4
    ).double()
    own = objective.decoder
    with torch.no_grad():
        theirs.decoder_embed.load_state_dict(own.embed.state_dict())
        theirs.decoder_blocks.load_state_dict(own.blocks.state_dict())
        theirs.decoder_norm.load_state_dict(own.norm.state_dict())
        theirs.decoder_pred.load_state_dict(own.last.state_dict())
        theirs.mask_token.copy_(own.mask_token.view_as(theirs.mask_token))
        theirs.decoder_pos_embed.copy_(torch.cat([torch.zeros(1, 16), own.positions])[None])
    order = 1 + hidden_anywhere(INDEX, L, seed=3, epoch=1)  # theirs count the class token
    keep, hidden = torch.cat([torch.zeros(B, 1, dtype=torch.long), order[:, :4]], 1), order[:, 4:]
    embedded = theirs.embed(vit.encode(given, idx_keep=keep))
    whole = theirs.mask_token.expand(B, L + 1, -1).scatter(1, keep[:, :, None].expand(-1, -1, 16), embedded)
    guesses = theirs.predict(theirs.decode(whole).gather(1, hidden[:, :, None].expand(-1, -1, 16)))
    wanted = patchify(given, PATCH).gather(1, (hidden - 1)[:, :, None].expand(-1, -1, 3 * PATCH**2))
    torch.testing.assert_close(ours, torch.nn.functional.mse_loss(guesses, wanted))
    parameters = list(objective.encoder.parameters())
    for one, other in zip(
        *(torch.autograd.grad(x, parameters) for x in (ours, torch.nn.functional.mse_loss(guesses, wanted))), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("registers", [0, 2])
def test_hidden_patches_reach_the_loss_as_targets_alone(registers):
    """With other pixels where the encoder sees nothing, predictions are the same."""
    objective, given = build(registers), images()
    order = hidden_anywhere(INDEX, L, seed=3, epoch=1)
    seen = torch.zeros(B, L, dtype=torch.bool).scatter(1, order[:, :4], True)[:, :, None]
    other = unpatchify(torch.where(seen, patchify(given, PATCH), patchify(images(1), PATCH)), PATCH)
    assert torch.equal(objective.predictions(given, order), objective.predictions(other, order))
    assert objective([given], INDEX, 1)["loss"] != objective([other], INDEX, 1)["loss"]


def test_what_is_hidden_is_a_function_of_image_and_epoch():
    order = hidden_anywhere(INDEX, L, seed=3, epoch=1)
    assert torch.equal(order.sort(1).values, torch.arange(L).expand(B, L))
    assert torch.equal(order[[1, 3]], hidden_anywhere(INDEX[[1, 3]], L, seed=3, epoch=1)), "whatever else is in the batch"
    for other in (hidden_anywhere(INDEX, L, seed=3, epoch=2), hidden_anywhere(INDEX, L, seed=4, epoch=1)):
        assert (order != other).any(1).all()
    many = hidden_anywhere(torch.arange(4000), L, seed=3, epoch=1)[:, :4]
    share = torch.bincount(many.flatten(), minlength=L) / 4000
    torch.testing.assert_close(share, torch.full((L,), 0.25), rtol=0, atol=0.03)  # 4 standard errors


@pytest.mark.parametrize("norm_pix", [True, False])
def test_pictures_show_what_is_seen_and_fill_in_the_rest(norm_pix):
    objective, given = build(norm_pix=norm_pix), images()
    pictures = objective.pictures(given, INDEX)
    assert list(pictures) == ["input", "seen", "reconstruction"]
    pixels = objective.encoder.pixels(given)
    torch.testing.assert_close(pictures["input"], pixels)
    order = hidden_anywhere(INDEX, L, seed=3, epoch=0)
    seen = torch.zeros(B, L, dtype=torch.bool).scatter(1, order[:, :4], True)[:, :, None].expand(-1, -1, 27)
    for name in ("seen", "reconstruction"):
        assert torch.equal(patchify(pictures[name], PATCH)[seen], patchify(pictures["input"], PATCH)[seen])
    grey = torch.tensor(MEAN, dtype=torch.float64).repeat(9).expand(B, L, 27)
    torch.testing.assert_close(patchify(pictures["seen"], PATCH)[~seen], grey[~seen])
    # A decoder that knows the truth gives the image.
    objective.decoder.forward = lambda tokens, keep: objective.targets(given)[0]
    torch.testing.assert_close(objective.pictures(given, INDEX)["reconstruction"], pixels)


def test_the_decoder_has_a_place_for_every_patch():
    decoder = PatchDecoder(24, 4, 16, 1, 2, 5, prefix=1)
    found = decoder(torch.zeros(1, 1 + 2, 24), torch.tensor([[7, 2]]))
    assert found.shape == (1, L, 5) and len({tuple(row.tolist()) for row in found[0]}) == L
    assert "positions" not in decoder.state_dict()


@pytest.mark.parametrize(("key", "value"), [("decoder_width", 18), ("hidden_share", 0.99)])
def test_options_that_do_not_fit_are_refused(key, value):
    with pytest.raises(UserError, match=f"objective: {key} must be"):
        build(**{key: value})


def test_a_resnet_is_refused_when_the_study_is_read(tmp_path):
    file = tmp_path / "one.yaml"
    file.write_text("extends: digits-invp\nobjective: {name: mae}\nhead: {kind: none}\ngraph: {of: features}\n")
    with pytest.raises(UserError, match="encoder.name is 'resnet_small', of which the objective asks for patches; valid: vit_tiny"):
        load(file)
