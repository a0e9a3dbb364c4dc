"""What the pretraining loop expects of every objective: one test over every file of the folder."""

import copy

import pytest
import torch
from test_pretrain import SMALL, TRANSFORMER, TRANSFORMERS, small_encoder

from invp.models.encoders import build_encoder
from invp.models.heads import build_head
from invp.plumbing.config import instance, plugin_options, structured
from invp.plumbing.encoder_options import INPUTS
from invp.plumbing.errors import UserError
from invp.plumbing.plugins import constants, load_plugin, plugin_names
from invp.plumbing.sections import Encoder
from invp.steps import pretrain

N, B, D, SIZE = 150, 16, 8, 12
SMALLER = {"num_negatives": N, "norm_group": 8, "num_keys": 40, "num_background": 40}
OBJECTIVES = plugin_names("objectives")
FIRST = ("conv1.weight", "light.conv1.weight", "colour.conv1.weight", "vit.patch_embed.proj.weight")  # of one network, or of two


def build(name: str, seed: int = 5, encoder: dict | None = None):
    torch.manual_seed(0)
    encoder = build_encoder(encoder or small_encoder(name), SIZE)
    kind = "mlp" if constants("objectives", name).get("HEAD", True) else "none"
    head = build_head({"kind": kind, "dimensions": D}, encoder.num_features)
    module = load_plugin("objectives", name)
    options = plugin_options("objectives", {"name": name, **SMALL.get(name, {})}, "test")
    options |= {key: value for key, value in SMALLER.items() if key in options}
    return module.Objective(instance(module.Config, options), encoder, head, N, seed=seed)


PICTURES = torch.randn(N, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(9))


def batch(objective, epoch: int, step: int) -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 * epoch + step)
    index = torch.randperm(N, generator=generator)[:B]
    noise = [torch.randn(B, 3, SIZE, SIZE, generator=generator) for _ in range(objective.views)]
    return [PICTURES[index] + 0.1 * one for one in noise], index


def embed(objective):
    def apply(function):
        training = objective.training
        objective.eval()
        with torch.no_grad():
            rows = torch.cat([function(chunk) for chunk in PICTURES.split(64)])
        objective.train(training)
        return rows

    return apply


def train(objective, epochs, steps: int = 3, rate: float = 0.03) -> list[dict]:
    outputs = []
    parameters = [p for p in objective.parameters() if p.requires_grad]
    for epoch in epochs:
        objective.begin_epoch(epoch, embed(objective))
        for step in range(steps):
            views, index = batch(objective, epoch, step)
            output = objective(views, index, epoch)
            gradients = torch.autograd.grad(output["loss"], parameters)
            with torch.no_grad():
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    parameter -= rate * gradient
            objective.end_step(index, {name: rows.detach() for name, rows in output["memory"].items()})
            outputs.append(output)
    return outputs


@pytest.mark.parametrize("name", OBJECTIVES)
def test_outputs_and_memory_have_the_promised_shapes(name):
    objective = build(name)
    assert isinstance(objective.views, int) and objective.views >= 1
    for output in train(objective, (1, 2, 3)):
        loss = output["loss"]
        assert loss.shape == () and loss.requires_grad and loss.isfinite()
        assert set(output) == {"loss", "memory", "metrics"}
        for key, rows in output["memory"].items():
            assert len(rows) == B and not rows.requires_grad, key
        if "feature" in output["memory"]:
            torch.testing.assert_close(output["memory"]["feature"].norm(dim=1), torch.ones(B))
        for key, value in output["metrics"].items():
            assert torch.as_tensor(value).numel() == 1 and not torch.as_tensor(value).requires_grad, key
        # The loop compares these to tell a collapse: all of them, or none.
        told = {"loss_instance" in output["metrics"], "uniform_loss" in output["metrics"], "feature" in output["memory"]}
        assert len(told) == 1
    module = load_plugin("objectives", name)
    if hasattr(module, "MEMORY"):  # what the graph step connects
        rows = objective.state_dict()[module.MEMORY]
        assert rows.shape == (N, D) and not rows.requires_grad
        rows = torch.nn.functional.normalize(rows, dim=1)
    if hasattr(module, "discovered"):  # what it keeps of the anchors' positives
        similarity = (rows @ rows.T).fill_diagonal_(-2)
        pairs = module.discovered(objective.config, rows, similarity.topk(6).indices, torch.tensor([0, 3]))
        assert set(pairs) == {"anchor", "positive", "distance", "similarity", "chosen"}
        assert len({len(values) for values in pairs.values()}) == 1 and module.neighbours_needed(objective.config) <= 6


RESNETS = [name for name in OBJECTIVES if name not in TRANSFORMERS]
ONE_NETWORK = [name for name in RESNETS if constants("objectives", name).get("INPUT", "rgb") != "l+ab"]


@pytest.mark.parametrize(
    ("name", "vit"), [(name, False) for name in RESNETS] + [(name, True) for name in (*TRANSFORMERS, *ONE_NETWORK)]
)
def test_every_trainable_parameter_has_a_gradient_and_no_memory_has_one(name, vit):
    kind = constants("objectives", name).get("INPUT", "rgb")
    objective = build(name, encoder=structured(Encoder, TRANSFORMER | {"input": kind}, "test") if vit else None)
    train(objective, (1, 2))
    objective.begin_epoch(3, embed(objective))
    views, index = batch(objective, 3, 0)
    objective(views, index, 3)["loss"].backward()
    for key, parameter in objective.named_parameters():
        if parameter.requires_grad:
            # DDP waits for every parameter; a bias before batch normalisation or a softmax may have a gradient of 0.
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key
        else:
            assert parameter.grad is None, key
    trained = objective.student["encoder"] if hasattr(objective, "student") else objective.encoder
    # Objectives that look at a transformer's blocks alone leave out the normalisation behind them.
    behind = {"vit.norm.weight", "vit.norm.bias"} if name in ("colourisation", "dense_correspondence") else set()
    assert {key for key, parameter in trained.named_parameters() if not parameter.requires_grad} <= behind
    first = [parameter for key, parameter in trained.named_parameters() if key in FIRST]
    assert first and all(parameter.grad.abs().max() > 0 for parameter in first)
    assert not any(buffer.requires_grad for buffer in objective.buffers())


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("after", [1, 2])
def test_all_state_is_in_the_state_dict(name, after):
    """A copy that takes up the state dict after an epoch, or inside one, goes on equal to the bit."""
    whole = build(name)
    train(whole, range(1, after + 1))
    state = copy.deepcopy(whole.state_dict())
    resumed = build(name)
    resumed.load_state_dict(state)
    torch.manual_seed(123)  # the global random state plays no part
    for objective in (whole, resumed):
        views, index = batch(objective, after, 7)  # inside the epoch: no begin_epoch
        objective.end_step(index, objective(views, index, after)["memory"])
    one, two = train(whole, (after + 1, after + 2)), train(resumed, (after + 1, after + 2))
    assert [a["loss"].item() for a in one] == [b["loss"].item() for b in two]
    for key, value in whole.state_dict().items():
        assert torch.equal(value.nan_to_num(), resumed.state_dict()[key].nan_to_num()), key


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_the_step_end_writes_memory(name):
    """`forward` may change batch statistics, but no bank, queue, table, cluster or parameter."""
    objective = build(name)
    train(objective, (1, 2))
    before = copy.deepcopy(objective.state_dict())
    views, index = batch(objective, 2, 7)
    objective(views, index, 2)
    for key, value in objective.state_dict().items():
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            assert torch.equal(value.nan_to_num(), before[key].nan_to_num()), key


@pytest.mark.parametrize("name", OBJECTIVES)
def test_training_lowers_the_loss_and_tells_images_apart(name):
    objective = build(name)
    first = train(objective, (1,), steps=1)[0]
    # Order is hard to learn in noise: the jigsaw learns faster, and is judged by four epochs, since one step's loss depends on roundings.
    rate, judged = (0.1, 24) if name == "jigsaw" else (0.03, 1)
    outputs = train(objective, range(2, 14), steps=6, rate=rate)
    last = outputs[-1]
    if "feature" not in last["memory"]:  # no bound of the loss tells a collapse
        assert last["loss"] < first["loss"]
        return
    if "batch_entropy" in last["metrics"]:  # a transformer begins with equal features, and a teacher's answers tell a collapse
        limits = [last["metrics"][name] / last["metrics"]["uniform_loss"] for name in ("loss_instance", "batch_entropy")]
        assert limits[0] < 1 and limits[1] > 0.1
        return
    feature = last["memory"]["feature"]
    assert feature.mean(0).square().sum() < 0.9 * first["memory"]["feature"].mean(0).square().sum()
    if "uniform_loss" in last["metrics"]:
        losses = [float(output["metrics"]["loss_instance"]) for output in outputs[-judged:]]
        assert sum(losses) / judged < float(last["metrics"]["uniform_loss"])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_what_an_objective_cannot_be_trained_with_is_refused_when_the_study_is_read(name):
    needs = constants("objectives", name)
    heads = ("linear", "mlp", "none") if needs.get("HEAD", True) else ("none",)
    inputs = (needs["INPUT"],) if "INPUT" in needs else INPUTS
    for kind in ("linear", "mlp", "none"):
        for seen in INPUTS:
            encoder = {"name": "vit_tiny" if name in TRANSFORMERS else "resnet18", "input": seen}
            experiment = {"objective": {"name": name}, "head": {"kind": kind}, "encoder": encoder}
            if kind in heads and seen in inputs:
                pretrain.check(experiment)
            else:
                with pytest.raises(UserError, match=r"^(head\.kind|encoder\.input) is .*valid: (none|l|l\+ab)$"):
                    pretrain.check(experiment)
