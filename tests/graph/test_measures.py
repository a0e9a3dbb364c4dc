"""Measures against networkx and plain loops, the snapshot against brute force, the approximate index against the exact one."""

import networkx as nx
import numpy as np
import pytest

from invp.core import graph_measures as gm
from invp.core.ranks import rankme, uniformity
from invp.steps.graph import approximate_neighbours, exact_neighbours, positions, recall_of, spread
from invp.tools.inspect_graph import shortest_path


def random_table(seed: int, n: int = 60, k: int = 3) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([rng.choice(np.delete(np.arange(n), i), k, replace=False) for i in range(n)])


def as_networkx(table: np.ndarray) -> nx.DiGraph:
    graph = nx.DiGraph()
    graph.add_nodes_from(range(len(table)))
    graph.add_edges_from((i, int(j)) for i, row in enumerate(table) for j in row)
    return graph


def unit_rows(seed: int, n: int = 300, d: int = 16) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("k", [1, 3])
def test_measures_equal_networkx(seed, k):
    table = random_table(seed, k=k)
    graph = as_networkx(table)
    assert gm.in_degree(table).tolist() == [graph.in_degree(i) for i in range(len(table))]
    assert gm.mutual_share(table) == pytest.approx(nx.overall_reciprocity(graph))
    assert gm.num_components(table) == nx.number_weakly_connected_components(graph)
    both = nx.Graph((a, b) for a, b in graph.edges if graph.has_edge(b, a))
    both.add_nodes_from(graph)
    assert gm.num_components(table, mutual=True) == nx.number_connected_components(both)


@pytest.mark.parametrize("seed", range(5))
def test_class_measures_equal_loops(seed):
    table, labels = random_table(seed), np.random.default_rng(seed).integers(0, 4, 60)
    edges = [(labels[i], labels[j]) for i, row in enumerate(table) for j in row]
    assert gm.same_class_share(table, labels) == pytest.approx(np.mean([a == b for a, b in edges]))
    confusion = gm.class_confusion(table, labels, 4)
    for a in range(4):
        for b in range(4):
            assert confusion[a, b] == pytest.approx(sum(e == (a, b) for e in edges) / sum(e[0] == a for e in edges))


@pytest.mark.parametrize("seed", range(5))
def test_what_the_neighbours_vote_for_equals_loops(seed):
    rng = np.random.default_rng(seed)
    table, labels = random_table(seed, k=4), rng.integers(-1, 3, 60)
    table[rng.random(table.shape) < 0.2] = -1  # an approximate search may have found fewer
    table[7] = -1
    winner, most, own = gm.class_votes(table, labels, 3)
    for node, row in enumerate(table):
        near = [labels[j] for j in row if j >= 0 and labels[j] >= 0]
        counts = [near.count(c) for c in range(3)]
        assert winner[node] == (counts.index(max(counts)) if near else -1)
        assert most[node] == pytest.approx(max(counts) / len(near) if near else np.nan, nan_ok=True)
        expected = near.count(labels[node]) / len(near) if near and labels[node] >= 0 else np.nan
        assert own[node] == pytest.approx(expected, nan_ok=True)
    assert gm.in_degree(table).tolist() == [int((table == node).sum()) for node in range(60)]


def test_outliers_are_ranked_by_their_mean_similarity():
    similarities = np.array([[0.9, 0.8], [0.5, -np.inf], [0.7, 0.2], [-np.inf, -np.inf]])
    assert gm.outlier_ranks(similarities).tolist() == [4, 3, 2, 1]
    rows = np.random.default_rng(0).random((50, 5))
    assert np.argsort(gm.outlier_ranks(rows)).tolist() == np.argsort(rows.mean(1)).tolist()


@pytest.mark.parametrize("seed", range(5))
def test_overlap_equals_sets(seed):
    one, other = random_table(seed), random_table(seed + 100)
    expected = [len(set(a) & set(b)) / 3 for a, b in zip(one, other, strict=True)]
    assert gm.overlap(one, other) == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(5))
def test_a_shortest_path_is_as_long_as_networkx_finds(seed):
    table = random_table(seed, k=2)
    graph = as_networkx(table)
    for end in range(1, 60, 7):
        path = shortest_path(table, 0, end)
        assert bool(path) == nx.has_path(graph, 0, end)
        if path:
            assert len(path) - 1 == nx.shortest_path_length(graph, 0, end)
            assert all(b in table[a] for a, b in zip(path, path[1:], strict=False))


def test_skewness_is_scipys():
    from scipy.stats import skew

    values = np.random.default_rng(0).poisson(2, 500)
    assert gm.skewness(values) == pytest.approx(skew(values))
    assert gm.skewness(np.full(5, 3)) == 0


def test_the_snapshot_equals_brute_force():
    rows = unit_rows(0)
    similarities, numbers = exact_neighbours(rows, 7)
    dense = rows.astype(np.float64) @ rows.T.astype(np.float64)
    np.fill_diagonal(dense, -np.inf)
    assert (numbers == np.argsort(-dense, 1)[:, :7]).all()
    assert similarities == pytest.approx(np.sort(-dense, 1)[:, :7] * -1, abs=1e-5)


def test_equal_rows_never_make_a_node_its_own_neighbour():
    rows = np.repeat(unit_rows(1, n=4), 10, 0)
    _, numbers = exact_neighbours(rows, 5)
    assert not (numbers == np.arange(40)[:, None]).any() and numbers.shape == (40, 5)


def test_recall_of_the_approximate_graph_is_measured_against_the_exact_one():
    rows = unit_rows(2, n=4000, d=8)
    _, exact = exact_neighbours(rows, 5)
    _, wide = approximate_neighbours(rows, 5, probes=100, seed=0)
    _, narrow = approximate_neighbours(rows, 5, probes=1, seed=0)
    truth = [np.mean([len(set(a) & set(b)) / 5 for a, b in zip(found, exact, strict=True)]) for found in (exact, wide, narrow)]
    measured = [recall_of(found, rows, 5, seed=0) for found in (exact, wide, narrow)]
    assert measured[0] == 1 and measured[1] > 0.99 and measured[2] < 0.95
    assert measured == pytest.approx(truth, abs=0.02)


def test_positions_are_the_principal_axes():
    from sklearn.decomposition import PCA

    rows = unit_rows(3)
    assert np.abs(positions(rows)) == pytest.approx(np.abs(PCA(2).fit_transform(rows)), abs=1e-4)


def by_kind(pairs):
    """`pairs`: (anchor, same, chosen) of each."""
    return gm.shares_by_kind(
        *(np.array(column, kind) for column, kind in zip(zip(*pairs, strict=True), (int, bool, bool), strict=True))
    )


def test_kinds_of_positives_are_compared_within_anchors():
    """In every anchor more of the others are of its class, and yet fewer of all the others than of all the chosen."""
    pure = [(3, True, True)] * 3 + [(3, False, True)] + [(3, True, False)]
    mixed = [(7, False, True)] * 2 + [(7, True, False)] * 2 + [(7, False, False)] * 8
    chosen, others, anchors = by_kind(pure + mixed)
    assert (chosen, others, anchors) == (pytest.approx((0.75 + 0) / 2), pytest.approx((1 + 0.2) / 2), 2)
    _, same, taken = (np.array(column) for column in zip(*pure, *mixed, strict=True))
    assert same[taken == 1].mean() > same[taken == 0].mean(), "over pairs it is the other way round"


def test_an_anchor_of_one_kind_is_in_neither_share():
    both = [(0, True, True), (0, False, False)]
    assert by_kind(both) == (1, 0, 1)
    assert by_kind(both + [(1, False, True)] * 9 + [(2, True, False)] * 9) == (1, 0, 1)
    assert by_kind([(1, False, True), (2, True, False)])[2] == 0


@pytest.mark.parametrize("seed", range(5))
def test_shares_by_kind_equal_loops(seed):
    rng = np.random.default_rng(seed)
    anchors, same, chosen = rng.integers(0, 30, 120), rng.random(120) < 0.4, rng.random(120) < 0.5
    shares = []
    for anchor in range(30):
        own = [[same[i] for i in range(120) if anchors[i] == anchor and chosen[i] == kind] for kind in (True, False)]
        if all(own):
            shares.append([np.mean(values) for values in own])
    assert 10 < len(shares) < 30
    assert gm.shares_by_kind(anchors, same, chosen) == pytest.approx((*np.mean(shares, 0), len(shares)))


def test_how_rows_spread_is_measured_on_a_seeded_share_of_many(monkeypatch):
    rows = unit_rows(4)
    whole = spread(rows, 0)
    assert whole == {"rankme": pytest.approx(rankme(rows)), "uniformity": pytest.approx(uniformity(rows))}
    monkeypatch.setattr("invp.steps.graph.ROWS", 50)
    some = [spread(rows, seed) for seed in (0, 0, 1)]
    assert some[0] == some[1] != some[2] and some[0] != whole
    assert some[0]["uniformity"] == pytest.approx(whole["uniformity"], abs=0.3)
