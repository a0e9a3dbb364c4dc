"""What the step `graph` keeps of each anchor's positives: by the objective's own options, as its training finds and chooses them."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from invp.core import reference
from invp.plumbing.config import plugin_options
from invp.plumbing.errors import UserError
from invp.plumbing.experiments import load
from invp.steps.graph import positive_measures, positives_of

N, K = 60, 5
ROWS = F.normalize(torch.randn(N, 6, generator=torch.Generator().manual_seed(3)), dim=1)
NEIGHBOURS = reference.knn_graph(ROWS, K)
ANCHORS = [0, 5, 59]


def pairs_of(anchor: int, **options):
    """(positive, distance, similarity, chosen) of an anchor, as they are kept."""
    section = {"objective": plugin_options("objectives", {"name": "invp", "k": 3, "steps": 2, **options}, "test")}
    pairs = positives_of(section, ROWS.numpy(), np.array(NEIGHBOURS), np.array(ANCHORS))
    mine = np.flatnonzero(pairs["anchor"] == anchor)
    return [tuple(pairs[name][row] for name in ("positive", "distance", "similarity", "chosen")) for row in mine]


def walks(anchor: int) -> list[int]:
    """The ends of all walks of one and of two steps, with repeats."""
    first = NEIGHBOURS[anchor][:3]
    return first + [j for i in first for j in NEIGHBOURS[i][:3]]


@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("num_positives", [1, 4, 100])
def test_the_default_takes_the_least_similar_of_the_walk(anchor, num_positives):
    graph = [row[:3] for row in NEIGHBOURS]
    found = pairs_of(anchor, num_positives=num_positives)
    nodes = reference.positives(graph, anchor, 2)
    assert {p for p, *_ in found} == set(nodes) and len(found) == len(nodes)
    near = reference.positives(graph, anchor, 1)
    assert all(distance == (1 if p in near else 2) for p, distance, *_ in found)
    s = reference.similarities(ROWS[anchor], ROWS)
    for p, _, similarity, _ in found:
        assert similarity == pytest.approx(float(s[p]), abs=1e-6)
    assert {p for p, *_, chosen in found if chosen} == set(reference.hard_positives(s, set(nodes), num_positives))


@pytest.mark.parametrize("anchor", ANCHORS)
def test_easy_takes_the_most_similar(anchor):
    found = pairs_of(anchor, positives="easy", num_positives=4)
    best = sorted(found, key=lambda pair: -pair[2])[:4]
    assert {p for p, *_, chosen in found if chosen} == {p for p, *_ in best}


@pytest.mark.parametrize("anchor", ANCHORS)
def test_knn_takes_the_nearest_rows_and_walks_nowhere(anchor):
    """Seven of them, more than the graph has neighbours."""
    found = pairs_of(anchor, positives="knn", num_neighbours=7)
    assert [p for p, *_ in sorted(found, key=lambda pair: -pair[2])] == reference.knn_graph(ROWS, 7)[anchor]
    assert all(chosen and distance == 1 for _, distance, _, chosen in found)


@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("options", [{"union": False}, {"official_compat": True}], ids=["no union", "official"])
def test_without_the_union_every_walk_counts(anchor, options):
    found = pairs_of(anchor, num_positives=100, **options)
    assert sorted(int(p) for p, *_ in found) == sorted(walks(anchor))


def test_objectives_without_a_rule_keep_none():
    section = {"objective": plugin_options("objectives", {"name": "simclr"}, "test")}
    assert positives_of(section, ROWS.numpy(), np.array(NEIGHBOURS), np.array(ANCHORS)) is None


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("objective: {name: moco}", "graph.of is 'bank'; valid with objective moco, which keeps none: features"),
        ("graph: {k: 2}", "graph.k is 2; valid with objective invp, whose walks take 4: at least 4"),
    ],
)
def test_a_graph_that_cannot_be_made_is_refused_when_the_study_is_read(content, expected, root, tmp_path):
    (tmp_path / "digits-invp.yaml").write_text((root / "config/experiments/digits-invp.yaml").read_text())
    (tmp_path / "own.yaml").write_text(f"extends: digits-invp\n{content}\n")
    with pytest.raises(UserError, match=expected):
        load(tmp_path / "own.yaml")
    (tmp_path / "own.yaml").write_text(
        f"extends: digits-invp\n{content}\n".replace("{k: 2}", "{k: 2, snapshot: false}")
        + ("graph: {of: features}\n" if "moco" in content else "")
    )
    load(tmp_path / "own.yaml")


def measured(taken: list[int]) -> dict:
    """Measures of two anchors of class 0, image 0 amid its class and image 1 with one of it; `taken`: how many the loss takes of each."""
    positives = [2, 3, 4, 5], [2, *range(6, 20)]
    pairs = {
        "anchor": np.repeat([0, 1], [len(own) for own in positives]),
        "positive": np.concatenate(positives),
        "distance": np.ones(sum(map(len, positives)), int),
        "chosen": np.concatenate([np.arange(len(own))[::-1] < count for own, count in zip(positives, taken, strict=True)]),
    }
    return positive_measures(pairs, (np.arange(N) >= 6).astype(int), ROWS.numpy())


def test_kinds_of_positives_are_compared_within_anchors_that_have_both():
    result = measured([2, 2])
    assert result["chosen_positives_same_class"] == pytest.approx((1 + 0) / 2)
    assert result["other_positives_same_class"] == pytest.approx((1 + 1 / 13) / 2)
    assert result["anchors_with_chosen_and_other"] == 2
    result = measured([4, 2])
    assert result["chosen_positives_same_class"] == 0 and result["other_positives_same_class"] == pytest.approx(1 / 13)
    assert result["anchors_with_chosen_and_other"] == 1 and result["positives_same_class"] == pytest.approx(5 / 19)


def test_without_an_anchor_that_has_both_kinds_there_is_nothing_to_compare():
    result = measured([4, 15])
    assert result["anchors_with_chosen_and_other"] == 0
    assert not {"chosen_positives_same_class", "other_positives_same_class"} & set(result)
