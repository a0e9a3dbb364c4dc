"""The figure of a run's curves: none of them is hidden, and the ramp is marked."""

from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

from invp.figures import training_curves

NAMES = ("loss", "loss_instance", "loss_invariance")


def drawn(objective: dict, losses: list[tuple], tmp_path, monkeypatch, names=NAMES) -> tuple[Figure, dict]:
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *rest, **options: (figures.append(self), save(self, *rest, **options)))
    curves = [{"epoch": e, "learning_rate": 0.1, **dict(zip(names, row, strict=False))} for e, row in enumerate(losses, 1)]
    inputs = SimpleNamespace(curves=curves, experiment={"title": "a", "objective": objective})
    found = training_curves.draw(training_curves.Config(), inputs, tmp_path / "figure.png")
    return figures[0], found


def test_equal_curves_are_drawn_once_and_the_legend_hides_none(tmp_path, monkeypatch):
    figure, found = drawn({"name": "instance_discrimination"}, [(5.0, 5.0), (4.0, 4.0)], tmp_path, monkeypatch)
    assert [line.get_label() for line in figure.axes[0].lines] == ["loss = loss instance"]
    assert found["loss"] == found["loss_instance"] == [5.0, 4.0], "the data have both"
    legend, axes = figure.legends[0].get_window_extent(), figure.axes[0].get_tightbbox()
    assert figure.axes[0].get_legend() is None and legend.y1 <= axes.y0


@pytest.mark.parametrize(("ramp", "epoch", "marked"), [("binary", 2, True), ("constant", 2, False), ("binary", 9, False)])
def test_the_ramp_is_marked_where_it_is_reached(ramp, epoch, marked, tmp_path, monkeypatch):
    objective = {"name": "invp", "ramp": ramp, "ramp_epoch": epoch}
    figure, _ = drawn(objective, [(5.0, 5.0, 0.0), (4.0, 4.0, 2.0), (6.0, 4.0, 2.0)], tmp_path, monkeypatch)
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == ["loss", "loss instance", "loss invariance", *(["w(t) = 1 after epoch 2"] if marked else [])]


def test_both_collapses_of_a_teacher_have_their_line(tmp_path, monkeypatch):
    names = ("loss", "loss_instance", "teacher_entropy", "batch_entropy", "kl", "uniform_loss")
    figure, found = drawn(
        {"name": "dino"}, [(4.5, 4.0, 3.0, 3.5, 1.0, 4.2), (3.5, 3.0, 2.0, 3.4, 1.0, 4.2)], tmp_path, monkeypatch, names
    )
    lines = {line.get_label(): line.get_ydata()[0] for line in figure.axes[0].lines}
    assert list(lines) == [
        "loss",
        "loss instance",
        "teacher entropy",
        "batch entropy",
        "kl",
        "log M (collapse)",
        "batch entropy 0 (collapse)",
    ]
    assert (lines["log M (collapse)"], lines["batch entropy 0 (collapse)"]) == (4.2, 0) and found["kl"] == [1.0, 1.0]
