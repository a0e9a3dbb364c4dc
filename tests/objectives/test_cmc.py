"""CMC: its loss between two halves and two banks, with gradients, and what the head makes of one half and of both."""

import math

import pytest
import torch
import torch.nn.functional as F
from rivals import images
from torch import nn

from invp.core.selection import hashed_indices
from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.objectives.cmc import Config, Objective
from invp.plumbing.errors import UserError

N, D, HALF, COUNT, TAU = 12, 4, 3, 5, 0.3
INDEX = torch.tensor([3, 8, 0])


class Halves(nn.Module):
    """Two halves whose features are rows of parameters; an "image" is a row's number."""

    num_features = 2 * HALF

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.light, self.colour = (nn.Parameter(torch.randn(N, HALF, generator=generator)) for _ in range(2))

    def halves(self, x):
        rows = x.flatten().long()
        return self.light[rows], self.colour[rows]


def build(kind: str = "linear", **options) -> Objective:
    torch.manual_seed(0)
    config = Config(**({"num_negatives": COUNT, "temperature": TAU} | options))
    objective = Objective(config, Halves(), build_head({"kind": kind, "dimensions": D}, 2 * HALF), N, seed=3)
    nn.init.normal_(objective.head[-1].bias)
    return objective.double()


def embeddings(objective: Objective, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The unit projections of both halves of an image, of a linear head."""
    weight, bias = objective.head[0].weight, objective.head[0].bias
    light = weight[:, :HALF] @ objective.encoder.light[number] + bias
    colour = weight[:, HALF:] @ objective.encoder.colour[number] + bias
    return light / light.norm(), colour / colour.norm()


def plain_loss(objective: Objective, partition: tuple | None) -> torch.Tensor:
    """The loss of the batch by loops; `partition` is Z of lightness and of colours, or each anchor has its own."""
    noise, total = hashed_indices(INDEX, COUNT, N, seed=3, epoch=1), 0
    for b, number in enumerate(INDEX.tolist()):
        for side, (feature, bank) in enumerate(
            zip(embeddings(objective, number), (objective.bank_ab, objective.bank_l), strict=True)
        ):
            terms = [torch.exp(feature @ bank[j] / TAU) for j in [number, *noise[b].tolist()]]
            if objective.config.loss == "infonce":
                total = total - torch.log(terms[0] / sum(terms))
                continue
            z = partition[side] if partition else (sum(terms) * N / (COUNT + 1)).detach()
            h = [term / z / (term / z + COUNT / N) for term in terms]
            total = total - torch.log(h[0]) - sum(torch.log(1 - one) for one in h[1:])
    return total / len(INDEX)


@pytest.mark.parametrize(("loss", "fixed"), [("infonce", False), ("nce", False), ("nce", True)])
def test_value_and_gradient_equal_loops(loss, fixed):
    objective = build(loss=loss)
    if fixed:
        objective.log_partition.copy_(torch.tensor([11.0, 17.0]).log())
    output = objective([images(*INDEX.tolist())], INDEX, 1)
    expected = plain_loss(objective, (11.0, 17.0) if fixed else None)
    torch.testing.assert_close(output["loss"], expected)
    parameters = list(objective.parameters())
    ours, theirs = (torch.autograd.grad(value, parameters) for value in (output["loss"], expected))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)
        assert one.abs().max() > 0
    seen = output["metrics"]
    assert seen["loss_instance"] == output["loss"].detach() and 0 <= seen["pretext_accuracy"] <= 100


def test_infonce_equals_cross_entropy_on_gathered_logits():
    objective = build(loss="infonce")
    lists = torch.cat([INDEX[:, None], hashed_indices(INDEX, COUNT, N, seed=3, epoch=1)], 1)
    light, colour, _ = objective._embeddings(images(*INDEX.tolist()))
    logits = [
        torch.einsum("bd,bmd->bm", z, bank[lists]) / TAU for z, bank in ((light, objective.bank_ab), (colour, objective.bank_l))
    ]
    own = torch.zeros(3, dtype=torch.long)
    output = objective([images(*INDEX.tolist())], INDEX, 1)
    torch.testing.assert_close(output["loss"], sum(F.cross_entropy(one, own) for one in logits))
    first = torch.cat([one.argmax(1) == 0 for one in logits]).float().mean()
    torch.testing.assert_close(output["metrics"]["pretext_accuracy"].float(), 100 * first)


@pytest.mark.parametrize("loss", ["infonce", "nce"])
def test_equal_features_have_the_loss_of_a_guess(loss):
    objective = build(loss=loss)
    for bank in (objective.bank_l, objective.bank_ab):
        bank.copy_(bank[:1].expand(N, -1))
    output = objective([images(*INDEX.tolist())], INDEX, 1)
    torch.testing.assert_close(output["metrics"]["uniform_loss"], output["loss"].detach())


def test_one_image_and_one_noise_row_by_hand():
    objective = build(loss="infonce", num_negatives=1)
    noise = hashed_indices(torch.tensor([2]), 1, N, seed=3, epoch=4).item()
    light, colour = embeddings(objective, 2)
    by_hand = sum(
        math.log(1 + math.exp((z @ bank[noise] - z @ bank[2]).item() / TAU))
        for z, bank in ((light, objective.bank_ab), (colour, objective.bank_l))
    )
    assert objective([images(2)], torch.tensor([2]), 4)["loss"].item() == pytest.approx(by_hand)


def test_each_half_moves_its_own_bank_and_the_first_step_fixes_both_z():
    objective = build(momentum=0.25)
    before = objective.bank_l.clone(), objective.bank_ab.clone()
    output = objective([images(*INDEX.tolist())], INDEX, 1)
    objective.end_step(INDEX, output["memory"])
    for side, (old, new) in enumerate(zip(before, (objective.bank_l, objective.bank_ab), strict=True)):
        for number in range(N):
            row = old[number]
            if number in INDEX.tolist():
                row = F.normalize(0.25 * row + 0.75 * embeddings(objective, number)[side], dim=0)
            torch.testing.assert_close(new[number], row)
    fixed = objective.log_partition.clone()
    torch.testing.assert_close(fixed.exp(), output["memory"]["log_partition"].exp().mean(0))
    objective.end_step(INDEX, objective([images(*INDEX.tolist())], INDEX, 2)["memory"])
    assert torch.equal(objective.log_partition, fixed) and fixed[0] != fixed[1]


@pytest.mark.parametrize("kind", ["linear", "mlp"])
def test_a_half_is_projected_without_the_other_and_both_make_the_embedding(kind):
    objective = build(kind)
    light, colour, both = objective._embeddings(images(*INDEX.tolist()))
    other = build(kind)
    with torch.no_grad():
        other.encoder.colour += 1
    changed = other._embeddings(images(*INDEX.tolist()))
    assert torch.equal(changed[0], light) and not torch.allclose(changed[1], colour)
    whole = objective.head(torch.cat(objective.encoder.halves(images(*INDEX.tolist())), 1))
    torch.testing.assert_close(both, F.normalize(whole, dim=1).detach())  # what evaluations call the embedding
    if kind == "linear":
        weight, bias = objective.head[0].weight, objective.head[0].bias
        halves = [
            part @ w.T for part, w in zip(objective.encoder.halves(images(*INDEX.tolist())), weight.split(HALF, 1), strict=True)
        ]
        torch.testing.assert_close(whole, halves[0] + halves[1] + bias)


def test_without_a_head_it_is_refused():
    with pytest.raises(UserError, match="head.kind is none, .*; valid: linear, mlp"):
        Objective(Config(), Halves(), build_head({"kind": "none", "dimensions": D}, 2 * HALF), N, seed=3)


def test_a_real_encoder_tells_lightness_from_colours():
    torch.manual_seed(0)
    options = {"name": "resnet_small", "stem": "auto", "width": 8, "blocks": 1, "norm": "batch", "zero_init_residual": False}
    encoder = build_encoder(options | {"input": "l+ab", "width_share": 0.5}, 8).eval()
    objective = Objective(
        Config(num_negatives=COUNT), encoder, build_head({"kind": "linear", "dimensions": D}, encoder.num_features), N, seed=3
    )
    pictures = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    grey = pictures.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    light, colour, _ = objective.eval()._embeddings(torch.cat([grey, grey.flip(0)]))
    torch.testing.assert_close(colour, colour[:1].expand(6, -1), rtol=1e-3, atol=1e-3)  # grey images differ in lightness alone
    assert (light - light[:1]).abs().max() > 1e-3
