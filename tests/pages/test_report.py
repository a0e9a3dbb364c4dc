"""The report's plots and scores by class."""

import json
import re

import pytest
from matplotlib.figure import Figure
from scipy.stats import binomtest

from invp.pages import report
from invp.pages.numbers import Number, Numbers
from invp.pages.plots import line_plot
from invp.steps.report import pictured


@pytest.fixture
def drawn(monkeypatch) -> list[tuple]:
    """What `line_plot` was asked to draw."""
    calls: list[tuple] = []
    monkeypatch.setattr(report, "line_plot", lambda *arguments: calls.append(arguments) or arguments[0])
    return calls


def curves(folder, name: str, rows: list[dict]):
    path = folder / name / "seed-0/pretrain/stage-2/metrics.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(f"{json.dumps({'epoch': epoch, **row})}\n" for epoch, row in enumerate(rows, 1)))
    return path


def test_the_loss_plot_compares_the_instance_loss_and_marks_the_ramp(tmp_path, drawn):
    objectives = {
        "a": {"name": "invp", "ramp": "binary", "ramp_epoch": 1}, "late": {"name": "invp", "ramp": "gaussian", "ramp_epoch": 9},
        "none": {"name": "invp", "ramp": "constant", "ramp_epoch": 1}, "b": {"name": "instance_discrimination"}, "r": {"name": "rotation"},
    }  # fmt: skip
    paths = [
        curves(tmp_path, name, [{"loss": 9.0, "loss_instance": 5.0}, {"loss": 12.0, "loss_instance": 4.0}]) for name in objectives
    ]
    paths[-1].write_text('{"epoch": 1, "loss": 1.4}\n')
    section = {
        "experiments": list(objectives), "seeds": [0],
        "loaded": {name: {"objective_options": options, "stages": [2]} for name, options in objectives.items()},
    }  # fmt: skip
    assert report.loss_plots(section, {"curves": paths}) == [
        "The instance loss that all share, seed 0",
        "The loss of rotation, seed 0",
    ]
    _, series, _, _, marks = drawn[0]
    assert series == {name: [(1, 5.0), (2, 4.0)] for name in ("a", "late", "none", "b")}
    assert marks == {"L_inv joins at full weight after epoch 1": 1}, "of a; that of `late` is not reached, `none` has no ramp"
    assert drawn[1][1] == {"r": [(1, 1.4)]}, "a loss of another kind is beside no other"


def test_entropies_of_a_teacher_have_a_plot_of_their_own(tmp_path, drawn):
    row = {"loss": 3.0, "teacher_entropy": 1.0, "batch_entropy": 3.5, "kl": 2.0, "uniform_loss": 4.0}
    paths = [curves(tmp_path, "d", [row, row | {"kl": 1.0}]), curves(tmp_path, "plain", [{"loss": 1.0}])]
    assert report.entropy_plots({"experiments": ["d", "plain"], "seeds": [0]}, {"curves": paths}) == [
        "Entropy of the teacher's answers, d, seed 0"
    ]
    series = drawn[0][1]
    assert list(series.values()) == [[(1, value), (2, value)] for value in (1.0, 3.5)] + [
        [(1, 2.0), (2, 1.0)],
        [(1, 4.0), (2, 4.0)],
    ]


def test_a_measure_that_equals_another_in_every_graph_is_drawn_once(drawn):
    section = {"experiments": ["a"], "loaded": {"a": {"stages": [1, 2]}}}
    values = {"same_class_share": (0.5, 0.6), "neighbour_quality": (0.5, 0.6), "mutual_share": (0.5, 0.7)}
    rows = [Number("a", 0, stage + 1, "graph", name, v) for name, own in values.items() for stage, v in enumerate(own)]
    assert report.graph_plots(section, Numbers(rows)) == ["Same-class share of edges", "Share of mutual edges"]


def test_measures_of_graphs_have_a_table_an_experiment_and_a_column_a_stage():
    section = {"experiments": ["a", "b", "c"], "seeds": [0], "loaded": {n: {"stages": [1, 2]} for n in "abc"}}
    rows = [Number(n, 0, stage, "graph", "mutual_share", 0.1 * stage) for n in "ab" for stage in (1, 2)]
    rows.append(Number("a", 0, 2, "graph", "recall", 0.9))
    (one, measures), (other, fewer) = report.graph_tables(section, Numbers(rows))
    assert (one, other) == ("a", "b") and measures.header == ["measure", "epoch 1", "epoch 2"]
    assert measures.rows == [["mutual share", "0.100", "0.200"], ["recall", "-", "0.900"]]
    assert fewer.rows == [["mutual share", "0.100", "0.200"]]


@pytest.mark.parametrize("count", [2, 13])
def test_names_of_curves_hide_none(count, monkeypatch):
    figures, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *rest, **options: (figures.append(self), save(self, *rest, **options)))
    line_plot("Losses", {f"experiment-{i}": [(0, i), (1, i)] for i in range(count)}, "epoch", "loss", {"a mark": 0.5})
    (figure,) = figures
    legend, axes = figure.legends[0].get_window_extent(), figure.axes[0].get_tightbbox()
    assert len(figure.legends[0].get_texts()) == count + 1
    assert legend.y1 <= axes.y0 and legend.y0 >= 0 and axes.height > 100


def test_scores_by_class_have_n_and_an_interval():
    rows = report.class_accuracies(["cat", "dog", "none"], [[36, 1, 0], [5, 35, 0], [0, 0, 0]])
    low, high = binomtest(36, 37).proportion_ci(method="wilson")
    key = "accuracy in % [95 % interval]"
    assert rows[0] == {"class": "cat", "right of n": "36 of 37", key: f"97.3 [{100 * low:.1f}, {100 * high:.1f}]"}
    assert rows[1]["right of n"] == "35 of 40" and rows[1][key].startswith("87.5 [")
    assert rows[2] == {"class": "none", "right of n": "0 of 0", key: None}


def of_graphs(name: str, stages: list[int], encoder: str = "resnet", snapshot: bool = True) -> dict:
    return {"dataset_id": "digits", "encoder": {"name": encoder}, "head": {}, "stages": stages, "graph": {"snapshot": snapshot}}


def test_the_first_screen_shows_the_reference_and_the_same_network_untrained():
    loaded = {"pixels": of_graphs("pixels", [0], "pixels"), "a": of_graphs("a", [5, 9]), "untrained": of_graphs("untrained", [0])}
    study = {"loaded": loaded, "experiments": list(loaded), "reference": "a"}
    assert pictured(study) == [("untrained", 0), ("a", 9)]
    del loaded["untrained"]
    assert pictured({**study, "experiments": list(loaded)}) == [("a", 5), ("a", 9)], (
        "other networks are no state before its training"
    )
    loaded["a"] = of_graphs("a", [9])
    assert pictured({**study, "experiments": list(loaded)}) == [("a", 9)]
    loaded["a"] = of_graphs("a", [9], snapshot=False)
    assert pictured({**study, "experiments": list(loaded)}) == [("pixels", 0)], "the first that keeps its graphs"
    assert pictured({**study, "experiments": ["a"], "loaded": {"a": loaded["a"]}}) == []


def test_figures_are_titled_by_what_they_show(tmp_path):
    paths = [tmp_path / f"a/seed-0/figures/{name}.png" for name in ("mine", "own-plugin")]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    pictures = report.figure_pictures({"figures": {"a": {"mine": "training-curves", "own-plugin": "own-plugin"}}}, paths)
    assert [picture.title for picture in pictures] == [
        "Losses and learning rate over the epochs: a, seed 0",
        "own plugin: a, seed 0",
    ]


def test_a_plot_takes_the_pages_colours_and_brings_no_style_of_its_own():
    plot = line_plot("Losses", {"a": [(0, 3.0), (9, 1.5)], "b": [(0, 2)]}, "epoch", "loss", {"a mark": 4})
    assert plot.seen == "loss against epoch: a from 3 to 1.5; b 2. Marked: a mark."
    assert "var(--series-1)" in plot.content and "var(--series-2)" in plot.content and "currentColor" in plot.content
    assert "<style" not in plot.content and "#000000" not in plot.content and "#ffffff" not in plot.content
    named = re.findall(r' id="([^"]+)"', plot.content)
    assert all(f"#{name}" in plot.content for name in named), "what nothing in the plot refers to has no name"
