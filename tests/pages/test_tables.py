"""Tables: which cells are marked, how they are printed, and that any text comes out of Markdown, LaTeX and plain text as it went in."""

import re

import numpy as np
import pytest
from hostile import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as some
from markdown_it import MarkdownIt

from invp.data.answers import packed
from invp.pages.numbers import Number, Numbers
from invp.pages.tables import LATEX, aligned, latex, latex_text, markdown, markdown_text, one_line, study_note, study_table
from invp.plumbing.metrics import PERCENT, Metric

texts = some.text(some.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | some.text(
    "\\`*_{}[]<>()#+-.!|&$~^%\"' \n:=ab1é🦊", max_size=12
)


def study(scores: dict[str, list[float]], column: str, **options) -> tuple[dict, Numbers]:
    """Experiments trained for two epochs with scores of the seeds 0, 1, ... in a column."""
    section = {
        "experiments": list(scores), "columns": [column], "seeds": list(range(max(map(len, scores.values())))), "reference": "",
        "loaded": {name: {"objective": "invp", "stages": [2]} for name in scores},
    }  # fmt: skip
    source, metric = column.split(".")
    rows = [Number(name, seed, 2, source, metric, value) for name, values in scores.items() for seed, value in enumerate(values)]
    return section, Numbers(rows, **options)


def test_what_no_test_supports_is_not_bold():
    units = {"knn.top1": PERCENT}
    section, numbers = study({"a": [98.0], "b": [97.0]}, "knn.top1", units=units)
    assert study_table(section, numbers).best == set(), "one seed, and no answers to compare"
    section, numbers = study({"a": [98.0, 98.1, 98.2], "b": [97.9, 98.1, 98.0], "c": [50.0, 51.0, 52.0]}, "knn.top1", units=units)
    assert study_table(section, numbers).best == set(), "a and b are not told apart"
    section, numbers = study({"a": [98.0, 98.1, 98.2], "b": [90.0, 90.1, 90.2], "c": [50.0, 51.0, 52.0]}, "knn.top1", units=units)
    assert study_table(section, numbers).best == {(0, 4)}


def test_less_is_better_where_the_metric_says_so_and_other_data_sets_and_costs_are_not_ranked():
    scores = {"a": [0.20, 0.21, 0.22], "b": [0.60, 0.61, 0.63]}
    units = {"statistics.overlap": Metric("share", "lower"), "knn.top1": PERCENT}
    assert study_table(*study(scores, "statistics.overlap", units=units)).best == {(0, 4)}
    data = {("a", "knn"): "digits", ("b", "knn"): "cifar10"}
    assert study_table(*study(scores, "knn.top1", units=units, data=data)).best == set()
    assert study_table(*study(scores, "training.seconds")).best == set()


def test_the_header_has_n_and_a_column_keeps_its_decimals():
    images = {("7", "knn"): 360, ("b", "knn"): 360}
    right = packed(np.arange(360) < 270)
    section, numbers = study({"7": [75.0], "b": [75.27777]}, "knn.top1", units={"knn.top1": PERCENT}, images=images,
                             right={("7", 0, 2, "knn.top1"): right})  # fmt: skip
    section["columns"].append("training.seconds")
    section["loaded"]["b"]["stages"] = [0, 2]
    table = study_table(section, numbers)
    assert table.header == ["experiment", "objective", "epochs", "seeds", "knn.top1 (n = 360)", "training.seconds"]
    assert table.rows == [["7", "invp", "2", "1", "75.0 [70.3, 79.2]", "-"], ["b", "invp", "2", "1", "75.3", "-"]]


def test_the_note_speaks_of_intervals_only_where_there_are_some():
    for column, has in (("knn.top1", True), ("graph.recall", False)):
        source, metric = column.split(".")
        right = {("a", 0, 1, column): packed(np.array([True, False]))} if has else {}
        numbers = Numbers([Number("a", 0, 1, source, metric, 50.0)], images={("a", source): 2}, right=right)
        section = {"experiments": ["a"], "seeds": [0], "columns": [column], "loaded": {"a": {"stages": [1]}}}
        assert ("In brackets" in study_note(section, numbers)) == has


def rendered(source: str, name: str) -> list[str]:
    """The texts of the elements of one kind in Markdown, as a parser understands them; markup in one fails."""
    tokens = MarkdownIt("commonmark").enable("table").parse(source)
    result = []
    for before, token in zip(tokens, tokens[1:], strict=False):
        if before.type == f"{name}_open" and token.type == "inline":
            assert {child.type for child in token.children} <= {"text"}, token.children
            result.append("".join(child.content for child in token.children))
    return result


@settings(deadline=None)
@given(texts, texts)
def test_any_text_comes_through_markdown(first, second):
    source = markdown(["a", first], [["b", second], [second, "c"]])
    assert rendered(source, "th") == ["a", one_line(first)]
    assert rendered(source, "td") == ["b", one_line(second), one_line(second), "c"]
    assert rendered(f"## {markdown_text(first)}\n", "heading") == [one_line(first)]


def test_names_with_underlines_stay_readable_in_markdown():
    assert markdown_text("graph.same_class_share ± 1") == "graph.same_class_share ± 1"


@settings(deadline=None)
@given(texts)
def test_any_text_comes_through_latex(text):
    source = latex_text(text)
    characters = {macro: chr(code) for code, macro in LATEX.items()} | {"{-}{-}": "--"}
    macro = re.compile("|".join(map(re.escape, sorted(characters, key=len, reverse=True))))
    assert macro.sub(lambda match: characters[match[0]], source) == one_line(text)
    assert not set(macro.sub("", source)) & set("\\{}&%$#_^~[*`"), "nothing is left that LaTeX takes as a command"


@pytest.mark.parametrize("write", [aligned, markdown, latex])
def test_a_row_is_a_line(write):
    one, two = write(["a"], [["b"]]), write(["a"], [[HOSTILE], ["b"]])
    assert len(two.splitlines()) == len(one.splitlines()) + 1


def test_plain_text_is_aligned():
    assert aligned(["a", "long name"], [["bcd", "x\ny"]]) == "a    long name\n---  ---------\nbcd  x y\n"
