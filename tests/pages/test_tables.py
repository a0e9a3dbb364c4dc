"""Tables: which cells are the best, and that any text comes out of Markdown, LaTeX and plain text as it went in."""

import re

import pytest
from hostile import HOSTILE
from hypothesis import given, settings
from hypothesis import strategies as some
from markdown_it import MarkdownIt

from invp.pages.numbers import Estimate, Number, Numbers
from invp.pages.tables import LATEX, aligned, best_rows, latex, latex_text, markdown, markdown_text, one_line, study_table
from invp.plumbing.metrics import PERCENT, Metric

texts = some.text(some.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | some.text(
    "\\`*_{}[]<>()#+-.!|&$~^%\"' \n:=ab1é🦊", max_size=12
)


def estimates(*means):
    return [None if mean is None else Estimate(mean, 0.0, 2) for mean in means]


def test_the_best_of_a_column():
    assert best_rows(estimates(3.25, None, 4.5), "higher") == {2}
    assert best_rows(estimates(3.25, None, 4.5), "lower") == {0} and best_rows(estimates(3.25, 4.5), "") == set()
    assert best_rows(estimates(98.331, 98.334, 90.0), "higher") == {0, 1}, "both are shown as 98.33"
    assert best_rows(estimates(1.0), "higher") == set(), "one row is not the best of anything"
    assert best_rows(estimates(None, None), "higher") == set() and best_rows(estimates(float("nan"), 2.0), "higher") == set()


def test_the_best_of_a_study_are_marked_but_for_what_training_cost():
    section = {
        "experiments": ["7", "b"], "columns": ["knn.top1", "training.seconds"], "seeds": [0],
        "loaded": {"7": {"objective": "invp", "stages": [2]}, "b": {"objective": "invp", "stages": [0]}},
    }  # fmt: skip
    rows = [Number("7", 0, 2, "knn", "top1", 80.5), Number("b", 0, 0, "knn", "top1", 90.5)]
    table = study_table(section, Numbers([*rows, Number("7", 0, 2, "training", "seconds", 9.0)], {"knn.top1": PERCENT}))
    assert table.header == ["experiment", "objective", "epochs", "seeds", "knn.top1", "training.seconds"]
    assert table.rows == [["7", "invp", "2", "1", "80.50", "9"], ["b", "-", "0", "1", "90.50", "-"]]
    assert table.best == {(1, 4)}, "an experiment that is named by a number is no number"


def test_less_is_better_where_the_metric_says_so_and_other_data_sets_are_not_ranked():
    section = {
        "experiments": ["a", "b"], "columns": ["statistics.overlap", "knn.top1"], "seeds": [0],
        "loaded": {name: {"objective": "invp", "stages": [2]} for name in "ab"},
    }  # fmt: skip
    rows = [Number(n, 0, 2, "statistics", "overlap", v) for n, v in (("a", 0.2), ("b", 0.6))]
    rows += [Number(n, 0, 2, "knn", "top1", v) for n, v in (("a", 20.0), ("b", 60.0))]
    units = {"statistics.overlap": Metric("share", "lower"), "knn.top1": PERCENT}
    data = {("a", "knn"): "digits", ("b", "knn"): "cifar10", ("a", "statistics"): "digits", ("b", "statistics"): "digits"}
    assert study_table(section, Numbers(rows, units, data)).best == {(0, 4)}


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
