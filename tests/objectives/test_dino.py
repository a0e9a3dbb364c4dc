"""DINO: its loss, centre and head against lightly's and loops, the teacher that evaluations see, iBOT's patches, KoLeo, and both collapses."""

import math

import pytest
import torch
import torch.nn.functional as F
from rivals import Given, images
from torch import nn

from invp.core.codes import hidden_prediction
from invp.core.spread import koleo
from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.objectives import _batch, dino
from invp.objectives._hidden import hidden_blocks
from invp.objectives.dino import Config, Objective, Prototypes, teacher_temperature
from invp.plumbing.config import structured
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load
from invp.plumbing.sections import Encoder
from invp.training.collapse import refuse_collapse

N, D, K, TAU, TEACHER = 16, 5, 6, 0.3, 0.2
VIEWS = [[3, 8, 0], [4, 9, 1], [5, 10, 2], [6, 11, 7]]
INDEX = torch.tensor(VIEWS[0])


def build(**options) -> Objective:
    given = {
        "num_prototypes": K,
        "temperature": TAU,
        "teacher_temperature": TEACHER,
        "momentum": 0.9,
        "frozen_epochs": 0,
        **options,
    }
    objective = Objective(Config(**given), Given(N, D), nn.Identity(), N, seed=3).double()
    with torch.no_grad():
        objective.student["encoder"].rows += 0.3  # so that the teacher differs
        objective.student["prototypes"].directions.mul_(2).add_(0.1)
        objective.centre.copy_(0.1 * torch.arange(K))
    return objective


def given(count: int) -> list[torch.Tensor]:
    return [images(*view) for view in VIEWS[:count]]


def scores(objective: Objective, who: str, numbers: list[int]) -> torch.Tensor:
    owner = objective.student if who == "student" else {"encoder": objective.encoder, "prototypes": objective.prototypes}
    rows, directions = owner["encoder"].rows[numbers], owner["prototypes"].directions
    return torch.stack([torch.stack([row / row.norm() @ (w / w.norm()) for w in directions]) for row in rows])


@pytest.mark.parametrize("num_small", [0, 2])
def test_value_and_gradients_equal_loops_and_the_teacher_takes_none(num_small):
    objective, count = build(num_small=num_small), 2 + num_small
    output = objective(given(count), INDEX, 1)
    total, terms = 0.0, 0
    for t in range(2):
        answers = torch.stack(
            [torch.exp((s - objective.centre) / TEACHER) for s in scores(objective, "teacher", VIEWS[t])]
        ).detach()
        for s in range(count):
            if s != t:
                logits = scores(objective, "student", VIEWS[s]) / TAU
                for image in range(3):
                    log_q = logits[image] - torch.log(torch.exp(logits[image]).sum())
                    total = total - (answers[image] / answers[image].sum() * log_q).sum()
                terms += 1
    expected = total / (3 * terms)
    assert terms == 2 * count - 2
    torch.testing.assert_close(output["loss"], expected)
    trained = list(objective.student.parameters())
    for one, other in zip(*(torch.autograd.grad(loss, trained) for loss in (output["loss"], expected)), strict=True):
        torch.testing.assert_close(one, other)
    assert [name for name, p in objective.named_parameters() if p.requires_grad] == [
        "student.encoder.rows",
        "student.prototypes.directions",
    ]


@pytest.mark.parametrize("num_small", [0, 2])
def test_loss_and_centre_equal_lightlys(num_small):
    losses = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    objective, count = build(num_small=num_small), 2 + num_small
    theirs = losses.DINOLoss(output_dim=K, warmup_teacher_temp_epochs=0, student_temp=TAU).double()
    theirs.center.copy_(objective.centre.view(1, 1, K))
    teacher = [scores(objective, "teacher", view) for view in VIEWS[:2]]
    student = [scores(objective, "student", view) for view in VIEWS[:count]]
    output = objective(given(count), INDEX, 1)
    torch.testing.assert_close(output["loss"], theirs(teacher, student, teacher_temp=TEACHER))
    objective.end_step(INDEX, output["memory"])
    torch.testing.assert_close(objective.centre, theirs.center.flatten())


@pytest.mark.parametrize("learned", [False, True])
def test_head_and_prototypes_equal_lightlys(learned):
    heads = pytest.importorskip("lightly.models.modules.heads", reason="lightly is not installed")
    theirs = heads.DINOProjectionHead(7, 12, 5, K, norm_last_layer=not learned)
    head = build_head({"kind": "mlp", "dimensions": 5, "layers": 3, "hidden": 12, "norm": "none", "activation": "gelu"}, 7)
    own = Prototypes(K, 5, learned, 0)
    with torch.no_grad():
        for mine, layer in zip(head[::2], [m for m in theirs.layers if isinstance(m, nn.Linear)], strict=True):
            mine.load_state_dict(layer.state_dict())
        own.directions.copy_(theirs.last_layer.weight_v)
        if learned:
            theirs.last_layer.weight_g.mul_(torch.arange(1.0, K + 1)[:, None])
            own.gain.copy_(theirs.last_layer.weight_g[:, 0])
    rows = torch.randn(4, 7, generator=torch.Generator().manual_seed(0))
    ours = own(F.normalize(head(rows), dim=1))
    torch.testing.assert_close(ours, theirs(rows))
    last = [theirs.last_layer.weight_v, *([theirs.last_layer.weight_g] if learned else [])]
    gradients = torch.autograd.grad(ours.square().sum(), own.parameters()), torch.autograd.grad(theirs(rows).square().sum(), last)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other.view_as(one), rtol=1e-4, atol=1e-5)


def test_temperatures_are_lightlys_schedule():
    losses = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    config = Config(warmup_temperature=0.04, teacher_temperature=0.07, warmup_epochs=4)
    theirs = losses.DINOLoss(output_dim=2, warmup_teacher_temp=0.04, teacher_temp=0.07, warmup_teacher_temp_epochs=4)
    expected = [*theirs.teacher_temp_schedule.tolist(), 0.07, 0.07]
    assert [teacher_temperature(config, epoch) for epoch in range(1, 7)] == pytest.approx(expected)
    assert [dino.steady(config, epoch) for epoch in (5, 6)] == [(0.07, False, None)] * 2
    assert dino.steady(Config(patch_weight=1.0), 5) != dino.steady(Config(patch_weight=1.0), 6)


def test_equal_answers_give_log_k_and_metrics_tell_both_collapses():
    objective = build()
    with torch.no_grad():
        for network in (objective.encoder, objective.student["encoder"]):
            network.rows.copy_(network.rows[:1].expand(N, D).clone())
        objective.centre.copy_(objective.prototypes(F.normalize(objective.encoder.rows[:1], dim=1))[0])
    output = objective(given(2), INDEX, 1)
    metrics = {name: value.item() for name, value in output["metrics"].items()}
    assert [metrics[name] for name in ("teacher_entropy", "batch_entropy", "uniform_loss")] == pytest.approx([math.log(K)] * 3)
    with torch.no_grad():  # a student that answers uniformly
        objective.student["prototypes"].directions.copy_(objective.student["prototypes"].directions[:1].expand(K, D).clone())
    output = objective(given(2), INDEX, 1)
    assert output["loss"].item() == pytest.approx(math.log(K)) and output["metrics"]["kl"].item() == pytest.approx(0, abs=1e-12)
    with torch.no_grad():
        objective.centre.copy_(-100.0 * F.one_hot(torch.tensor(2), K))  # one prototype for all
    metrics = objective(given(2), INDEX, 1)["metrics"]
    assert [metrics[name].item() for name in ("batch_entropy", "teacher_entropy")] == pytest.approx([0, 0], abs=1e-9)


ROW = {"epoch": 3, "loss": 1.0, "loss_instance": 1.0, "uniform_loss": 4.0, "feature_agreement": 0.2}
ROW |= {"batch_entropy": 3.0, "teacher_entropy": 0.8}
COLLAPSES = [
    ({}, None),
    ({"feature_agreement": 0.999, "loss_instance": 3.7}, None),  # a transformer that begins to learn
    ({"teacher_entropy": 3.98, "batch_entropy": 4.0}, "uniform for every image.*lower objective.teacher_temperature"),
    ({"batch_entropy": 0.3, "teacher_entropy": 0.2}, "the same prototype for every image.*raise objective.teacher_temperature"),
    ({"teacher_entropy": 0.01}, None),  # sure of every image, and of each another
]


@pytest.mark.parametrize(("numbers", "words"), COLLAPSES)
def test_both_collapses_are_refused_with_what_to_change(numbers, words):
    section = {"objective": {"name": "dino", "teacher_temperature": 0.04, "centre_momentum": 0.9}, "training": {"warmup_epochs": 2}}
    if words is None:
        refuse_collapse([ROW | numbers], section)
        return
    with pytest.raises(UserError, match=f"collapsed: after epoch 3 .*{words}"):
        refuse_collapse([ROW | numbers], section)
    refuse_collapse([ROW | numbers | {"epoch": 2}], section)  # a network that warms up may still be as it began
    refuse_collapse([{"epoch": 3, "loss": 1.0}], section)  # an objective without a bound


def test_prototypes_stay_in_the_first_epoch():
    objective = build(frozen_epochs=1, learned_gain=True)
    for epoch, moves in ((1, False), (2, True)):
        output = objective(given(2), INDEX, epoch)
        for parameter in objective.student["prototypes"].parameters():
            gradient = torch.autograd.grad(output["loss"], parameter, retain_graph=True)[0]
            assert bool(gradient.abs().max() > 0) == moves


@pytest.mark.parametrize(("progress", "share"), [(0.0, 0.1), (0.5, 0.05), (1.0, 0.0)])
def test_the_teacher_follows_after_the_centre_and_its_momentum_rises(progress, share):
    objective = build()
    objective.progress = progress
    output = objective(given(2), INDEX, 1)
    before = {name: value.clone() for name, value in objective.state_dict().items()}
    mean = torch.cat([scores(objective, "teacher", view) for view in VIEWS[:2]]).mean(0).detach()
    objective.end_step(INDEX, output["memory"])
    torch.testing.assert_close(objective.centre, 0.9 * before["centre"] + 0.1 * mean)
    for name in ("encoder.rows", "prototypes.directions"):
        start, now = before[name], before[f"student.{name}"]
        torch.testing.assert_close(objective.state_dict()[name], start + share * (now - start))
        assert torch.equal(objective.state_dict()[f"student.{name}"], now)


def test_balanced_answers_equal_lightlys_over_both_views_and_all_processes(monkeypatch):
    swav_loss = pytest.importorskip("lightly.loss.swav_loss", reason="lightly is not installed")
    objective = build(centring="sinkhorn")
    teacher = torch.cat([scores(objective, "teacher", view) for view in VIEWS[:2]])
    codes = swav_loss.sinkhorn(teacher, iterations=3, epsilon=TEACHER).view(2, 3, K)
    student = torch.stack([scores(objective, "student", view) for view in VIEWS[:2]])
    log_q = (student / TAU).log_softmax(2)
    expected = -((codes[0] * log_q[1]).sum() + (codes[1] * log_q[0]).sum()) / 6
    output = objective(given(2), INDEX, 1)
    torch.testing.assert_close(output["loss"], expected)
    # Of two processes the first has what the whole batch gives its own rows.
    other = F.normalize(objective.encoder.rows[[12, 13, 14, 15, 6, 7]], dim=1).detach()
    own = F.normalize(objective.encoder.rows[sum(VIEWS[:2], [])], dim=1).detach()
    monkeypatch.setattr(dino, "gather", lambda rows: torch.cat([rows, other]))
    monkeypatch.setattr(_batch, "rank_and_world_size", lambda: (0, 2))
    found = objective._targets(own.view(2, 3, D), objective.centre, TEACHER)
    whole = swav_loss.sinkhorn(objective.prototypes(torch.cat([own, other])), iterations=3, epsilon=TEACHER)
    torch.testing.assert_close(found, whole[:6].view(2, 3, K))


def test_koleo_equals_loops_and_lightlys():
    given = torch.randn(9, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rows = F.normalize(given, dim=1)
    loss = koleo(rows, rows, torch.arange(9))
    terms = []
    for i, row in enumerate(rows):
        others = [other for j, other in enumerate(rows) if j != i]
        terms.append(-torch.log(min((row - other).norm() for other in others)))
    torch.testing.assert_close(loss, sum(terms) / 9, rtol=1e-6, atol=0)
    losses = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    theirs = losses.KoLeoLoss()(given)
    torch.testing.assert_close(loss, theirs)
    torch.testing.assert_close(*(torch.autograd.grad(each, given)[0] for each in (loss, theirs)))


def test_koleo_is_that_of_both_large_views_of_the_student():
    objective, plain = build(koleo=0.1, num_small=2), build(num_small=2)
    loss, without = objective(given(4), INDEX, 1), plain(given(4), INDEX, 1)
    rows = F.normalize(objective.student["encoder"].rows, dim=1)
    expected = sum(koleo(rows[view], rows[view], torch.arange(3)) for view in VIEWS[:2])
    torch.testing.assert_close(loss["loss"] - without["loss"], 0.1 * expected)
    torch.testing.assert_close(loss["metrics"]["loss_koleo"], expected.detach())


def transformer(**options) -> Objective:
    torch.manual_seed(0)
    kind = {"name": "vit_tiny", "token_width": 24, "depth": 2, "patch": 2, "drop_path": 0.2}
    encoder = build_encoder(structured(Encoder, kind, "test"), 8)
    config = Config(**{"num_prototypes": K, "temperature": TAU, "teacher_temperature": TEACHER, "frozen_epochs": 0, **options})
    objective = Objective(config, encoder, build_head({"kind": "linear", "dimensions": D}, 24), N, seed=3)
    with torch.no_grad():
        objective.mask_token.normal_(generator=torch.Generator().manual_seed(1))
        objective.patch_centre.copy_(0.1 * torch.arange(K))
    return objective.double().eval()


def pictures(count: int, sizes=(8, 8)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(count, 3, size, size, dtype=torch.float64, generator=generator) for size in sizes]


def test_the_loss_of_hidden_patches_equals_lightlys():
    losses = pytest.importorskip("lightly.loss", reason="lightly is not installed")
    objective, index, views = transformer(patch_weight=0.7), torch.arange(12), pictures(12)
    output = objective(views, index, 4)
    hidden = objective.hidden(views[0], index, 4)
    student, teacher = objective.student, objective
    images, first, found = torch.cat(views), student["encoder"].tokens, {}
    tokens = {
        "student": first(images, masked=hidden, mask_token=objective.mask_token),
        "teacher": teacher.encoder.tokens(images),
    }
    for name, owner in (("student", student), ("teacher", {"head": teacher.head, "prototypes": teacher.prototypes})):
        found[name] = owner["prototypes"](F.normalize(owner["head"](tokens[name]), dim=2))  # 24x17xK
    theirs = losses.IBOTPatchLoss(output_dim=K, teacher_temp=TEACHER, student_temp=TAU).double()
    theirs.center.center = objective.patch_centre.view(1, K).clone()
    patches = theirs(found["teacher"][:, 1:][hidden], found["student"][:, 1:][hidden], hidden.view(-1, 4, 4))
    torch.testing.assert_close(output["metrics"]["loss_patches"], patches.detach())
    whole = losses.DINOLoss(output_dim=K, warmup_teacher_temp_epochs=0, student_temp=TAU).double()
    both = {name: list(value[:, 0].chunk(2)) for name, value in found.items()}
    torch.testing.assert_close(output["loss"], whole(both["teacher"], both["student"], teacher_temp=TEACHER) + 0.7 * patches)
    # iBOT's centre is that of all patches, hidden or not.
    mean, before = found["teacher"][:, 1:].mean((0, 1)), objective.patch_centre.clone()
    objective.end_step(index, output["memory"])
    torch.testing.assert_close(objective.patch_centre, 0.9 * before + 0.1 * mean)
    assert hidden.any() and not hidden.any(1).all()


def test_an_image_without_hidden_patches_counts_as_nothing():
    scores, codes = (torch.randn(2, 3, K, generator=torch.Generator().manual_seed(seed)).softmax(2) for seed in (0, 1))
    hidden = torch.tensor([[True, False, True], [False] * 3])
    terms = [-(codes[0, i] * (scores[0, i] / TAU).log_softmax(0)).sum() for i in (0, 2)]
    torch.testing.assert_close(hidden_prediction(scores, codes, hidden, TAU), sum(terms) / 2 / 2)


def test_blocks_hide_the_share_that_was_drawn_in_half_of_the_images():
    index = torch.arange(3000)
    hidden = hidden_blocks(index, 8, (0.1, 0.5), 0.5, seed=3, epoch=1)
    count = hidden.sum(1)
    assert (count > 0).double().mean().item() == pytest.approx(0.5, abs=0.04)  # 4 standard errors
    assert count[count > 0].min() == 6 and count.max() == 32
    assert count[count > 0].double().mean().item() == pytest.approx(0.3 * 64, abs=0.8)
    assert torch.equal(hidden[5:9], hidden_blocks(index[5:9], 8, (0.1, 0.5), 0.5, seed=3, epoch=1))
    assert (hidden != hidden_blocks(index, 8, (0.1, 0.5), 0.5, seed=3, epoch=2)).any()
    grid = hidden[count > 0].view(-1, 8, 8)
    together = (grid[:, :, 1:] & grid[:, :, :-1]).sum((1, 2)) / grid.sum((1, 2))
    alone = count[count > 0].double() / 64 * 7 / 8  # what patches at random places would give
    assert together.double().mean() > 1.5 * alone.mean()
    share = grid.double().mean(0)
    assert 0.05 < share.min() and share.max() < 0.55, "anywhere"
    torch.testing.assert_close(share, share.flip(0, 1), rtol=0, atol=0.06)  # and a cut block as often from below


def test_the_teacher_is_what_is_evaluated_and_leaves_out_no_branch():
    objective = transformer(patch_weight=1.0).train()
    assert objective.encoder.drop_path == 0 and objective.student["encoder"].drop_path == 0.2
    assert not any(p.requires_grad for m in (objective.encoder, objective.head, objective.prototypes) for p in m.parameters())
    views = pictures(4)[0]
    assert torch.equal(objective.encoder(views), objective.eval().encoder(views))


def test_a_view_of_another_size_has_its_own_patches():
    objective = transformer(patch_weight=1.0, num_small=2)
    output = objective(pictures(4, (8, 8, 4, 4)), torch.arange(4), 1)
    assert output["loss"].isfinite() and output["memory"]["teacher_patches"].shape == (4, D)


def test_hidden_patches_of_a_resnet_are_refused_when_the_study_is_read(tmp_path):
    file = tmp_path / "one.yaml"
    words = "extends: digits-invp\nobjective: {name: dino, patch_weight: %s}\ngraph: {of: features}\n"
    file.write_text(words % 0.0)
    load(file)
    file.write_text(words % 1.0)
    with pytest.raises(UserError, match="encoder.name is 'resnet_small', of which the objective asks for patches"):
        load(file)
