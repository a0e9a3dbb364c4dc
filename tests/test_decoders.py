"""Decoders: the size of what they give, the layers one by one, and that an image depends on its own code alone."""

import pytest
import torch
import torch.nn.functional as F

from invp.models.decoders import ConvDecoder, LinearDecoder, sides_to
from invp.models.encoders import build_encoder
from invp.objectives.autoencoder import Config, Objective
from invp.plumbing.errors import UserError


@pytest.mark.parametrize(
    ("size", "sides"),
    [(1, [1]), (4, [4]), (5, [3, 5]), (8, [4, 8]), (24, [3, 6, 12, 24]), (32, [4, 8, 16, 32]), (225, [4, 8, 15, 29, 57, 113, 225])],
)
def test_an_image_of_any_size_is_reached_by_doubling(size, sides):
    assert sides_to(size) == sides
    assert all(2 * a - b in (0, 1) for a, b in zip(sides, sides[1:], strict=False))
    decoder = ConvDecoder(3, size, 8)
    assert decoder(torch.randn(2, 3)).shape == (2, 3, size, size)
    assert [halving[0].out_channels for halving in decoder.halvings] == [8 * 2**i for i in range(len(sides) - 1)][::-1]


def test_the_layers_are_those_that_are_told():
    """Against the decoder written out, with each upsampled pixel looked up by its place."""
    torch.manual_seed(0)
    decoder, codes = ConvDecoder(5, 7, 8, channels=2).double(), torch.randn(3, 5, dtype=torch.double)
    maps = (codes @ decoder.spread.weight.T + decoder.spread.bias).clamp(min=0).view(3, 16, 4, 4)
    large = torch.empty(3, 16, 7, 7, dtype=torch.double)
    for row in range(7):
        for column in range(7):
            large[:, :, row, column] = maps[:, :, row // 2, column // 2]
    convolved = F.conv2d(large, decoder.halvings[0][0].weight, padding=1)
    normed = (convolved - convolved.mean((2, 3), keepdim=True)) / (convolved.var((2, 3), correction=0, keepdim=True) + 1e-5).sqrt()
    expected = F.conv2d(normed.clamp(min=0), decoder.last.weight, decoder.last.bias)
    torch.testing.assert_close(decoder(codes), expected)


@pytest.mark.parametrize("decoder", [ConvDecoder(4, 12, 16), LinearDecoder(4, 12)])
def test_an_image_depends_on_its_own_code_alone(decoder):
    codes = torch.randn(6, 4)
    torch.testing.assert_close(decoder(codes)[2:3], decoder(codes[2:3]))
    assert not torch.equal(decoder(codes)[0], decoder(codes)[1])


def test_the_code_is_what_the_head_gives_and_the_size_that_of_the_views():
    encoder = build_encoder(
        {"name": "resnet_small", "stem": "auto", "width": 8, "blocks": 1, "norm": "batch", "zero_init_residual": False}, 10
    )
    objective = Objective(Config(), encoder, torch.nn.Identity(), 7, seed=0)
    assert objective.decoder.spread.in_features == encoder.num_features and objective.decoder.sides == [3, 5, 10]
    head = torch.nn.Sequential(torch.nn.Linear(32, 32), torch.nn.ReLU(), torch.nn.Linear(32, 6))
    assert Objective(Config(), encoder, head, 7, seed=0).decoder.spread.in_features == 6
    with pytest.raises(UserError, match="objective: decoder_width must be a multiple of 8, and is 12"):
        Objective(Config(decoder_width=12), encoder, head, 7, seed=0)
