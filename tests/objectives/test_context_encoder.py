"""The context encoder, of raw pixels in 64 bits: its holes, its loss over them, and an adversary that one optimiser trains."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.objectives.context_encoder import Config, Discriminator, Objective
from invp.plumbing.errors import UserError

SIZE, INDEX = 10, torch.tensor([3, 8, 0, 11])
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def network(size: int = SIZE, **options) -> Objective:
    torch.manual_seed(0)
    encoder = build_encoder({"name": "pixels", "zero_init_residual": False}, size, mean=MEAN, std=STD)
    head = build_head({"kind": "linear", "dimensions": 6}, encoder.num_features)
    return Objective(Config(**options), encoder, head, 24, seed=3).double()


def views(size: int = SIZE) -> torch.Tensor:
    pixels = torch.rand(4, 3, size, size, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    return (pixels - torch.tensor(MEAN).double().view(3, 1, 1)) / torch.tensor(STD).double().view(3, 1, 1)


def test_the_hole_is_the_centre_half():
    hole, hidden = network(size=128).holes(INDEX, 1)
    expected = torch.zeros(128, 128, dtype=torch.bool)
    expected[32:96, 32:96] = True
    assert hole.shape == (4, 1, 128, 128) and (hole == expected).all() and torch.equal(hole, hidden)
    _, hidden = network(size=128, overlap=4).holes(INDEX, 1)
    expected = torch.zeros(128, 128, dtype=torch.bool)
    expected[36:92, 36:92] = True
    assert (hidden == expected).all()


def test_blocks_lie_anywhere_as_seed_epoch_and_index_say():
    objective = network(size=16, num_blocks=4, overlap=1)
    assert objective.side == 4  # a quarter of the side: four have the area of the centre half
    index = torch.arange(300)
    hole, hidden = objective.holes(index, 1)
    assert (hole.sum((1, 2, 3)) <= 64).all() and (hole | ~hidden).all()
    assert hole.any(0).all(), "some place is never covered"
    again, _ = objective.holes(index.flip(0), 1)
    assert torch.equal(again.flip(0), hole)
    assert not torch.equal(objective.holes(index, 2)[0], hole)
    # One block alone is a square, whose inner part is hidden.
    hole, hidden = network(size=16, num_blocks=1, overlap=1).holes(index, 1)
    for one, inner in zip(hole[:20, 0], hidden[:20, 0], strict=True):
        rows, columns = one.any(1).nonzero().flatten(), one.any(0).nonzero().flatten()
        assert len(rows) == len(columns) == 8 and one.sum() == 64 and inner.sum() == 36
        assert inner[rows[1] : rows[-1], columns[1] : columns[-1]].all()


@pytest.mark.parametrize("options", [{}, {"overlap": 1, "overlap_weight": 4.0}, {"num_blocks": 3, "hole_share": 0.7, "overlap": 1}])
def test_value_and_gradient_are_those_of_loops_over_the_hole(options):
    objective, images = network(**options), views()
    output = objective([images], INDEX, 2)
    hole, hidden = objective.holes(INDEX, 2)
    seen = images.clone()
    pixels = images * torch.tensor(STD).double().view(3, 1, 1) + torch.tensor(MEAN).double().view(3, 1, 1)
    places = [(b, r, c) for b in range(4) for r in range(SIZE) for c in range(SIZE)]
    for b, r, c in places:
        if hidden[b, 0, r, c]:
            seen[b, :, r, c] = 0
    made = objective.decoder(objective.head(objective.encoder(seen)))
    loss = error = 0.0
    for b, r, c in places:
        if hole[b, 0, r, c]:
            term = sum((made[b, i, r, c] - pixels[b, i, r, c]) ** 2 for i in range(3)) / 3 / int(hole[b].sum()) / 4
            error = error + term
            loss = loss + (1 if hidden[b, 0, r, c] else options["overlap_weight"] if "overlap_weight" in options else 10) * term
    torch.testing.assert_close(output["loss"], loss, rtol=1e-6, atol=0)
    assert output["metrics"]["pretext_error"].item() == pytest.approx(error.item(), rel=1e-6)
    parameters = list(objective.parameters())
    for ours, theirs in zip(torch.autograd.grad(output["loss"], parameters), torch.autograd.grad(loss, parameters), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-8)


def test_what_lies_in_the_hole_is_not_seen_and_what_lies_outside_does_not_count():
    objective, images = network(), views()
    hole, _ = objective.holes(INDEX, 1)
    seen = []
    objective.encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    objective([images], INDEX, 1)
    objective([torch.where(hole, -images, images)], INDEX, 1)
    assert torch.equal(seen[0], seen[1]) and not torch.equal(seen[0], images)
    # The hole has the mean colour.
    torch.testing.assert_close(objective.encoder.pixels(seen[0])[0, :, SIZE // 2, SIZE // 2], torch.tensor(MEAN).double())

    class Known(nn.Module):
        def forward(self, code):
            return torch.where(hole, objective.encoder.pixels(images), torch.full_like(images, 9.0))

    objective.decoder = Known()
    assert objective([images], INDEX, 1)["loss"].item() == 0
    shown = objective.pictures(images, INDEX)
    assert list(shown) == ["input", "hole", "reconstruction"]
    torch.testing.assert_close(shown["reconstruction"], shown["input"])
    assert ((shown["hole"] - shown["input"]).abs().amax(1, keepdim=True) > 0).eq(hole).double().mean() > 0.99


def test_the_adversary_trains_both_with_one_backward_pass():
    """Each parameter has the gradient that two losses with their own backward passes give it."""
    objective, images = network(adversary=0.2), views()
    output = objective([images], INDEX, 1)
    hole, hidden = objective.holes(INDEX, 1)
    pixels = objective.encoder.pixels(images)
    made = objective.decoder(objective.head(objective.encoder(images.masked_fill(hidden, 0))))
    reconstruction = (hole * (made - pixels) ** 2).sum() / (3 * hole.sum())
    judge, ones = objective.discriminator, torch.ones(4, dtype=torch.double)
    fooled = F.binary_cross_entropy_with_logits(judge(made * hole), ones)
    told = F.binary_cross_entropy_with_logits(judge(pixels * hole), ones)
    told = told + F.binary_cross_entropy_with_logits(judge((made * hole).detach()), 0 * ones)
    torch.testing.assert_close(output["loss"], 0.8 * reconstruction + 0.2 * fooled + told)
    makers = [p for name, p in objective.named_parameters() if not name.startswith("discriminator.")]
    expected = torch.autograd.grad(0.8 * reconstruction + 0.2 * fooled, makers, retain_graph=True)
    expected += torch.autograd.grad(told, list(judge.parameters()))
    ours = torch.autograd.grad(output["loss"], makers + list(judge.parameters()))
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other)
        assert one.abs().max() > 0
    assert output["metrics"]["loss_adversary"].item() == pytest.approx(fooled.item())
    assert output["metrics"]["loss_discriminator"].item() == pytest.approx(told.item())
    assert not hasattr(network(), "discriminator")


@pytest.mark.parametrize("size", [4, 5, 12, 128])
def test_the_discriminator_takes_images_of_any_size(size):
    judge = Discriminator(size, 8)
    assert judge(torch.rand(3, 3, size, size)).shape == (3,)
    assert sum(isinstance(layer, nn.Conv2d) for layer in judge.layers) == {4: 0, 5: 1, 12: 2, 128: 5}[size]


def test_options_that_leave_nothing_hidden_are_refused():
    with pytest.raises(UserError, match="objective: overlap must be less than half of a hole's side, which is 5 pixels, and is 3"):
        network(overlap=3)
    with pytest.raises(UserError, match="decoder_width must be a multiple of 8"):
        network(decoder_width=20)
    assert network(hole_share=0.01).side == 1
