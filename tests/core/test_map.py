"""The map of a graph: its affinities against loops, who is near whom, and what stays from stage to stage."""

import numpy as np
import pytest

from invp.core import map as maps

N, K, GROUPS = 240, 6, 4


def grouped(seed: int, move: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours NxK inside groups, as of points on a ring each, and the groups; the first `move` nodes are of the next group."""
    group = np.arange(N) % GROUPS
    group[:move] = (group[:move] + 1) % GROUPS
    near = np.empty((N, K), np.int64)
    rng = np.random.default_rng(seed)
    for node in range(N):
        mine = np.flatnonzero((group == group[node]) & (np.arange(N) != node))
        ring = mine[np.argsort((mine - node) % N)]
        near[node] = np.concatenate([ring[: K // 2], ring[-(K - K // 2) :]])
        rng.shuffle(near[node])
    return near, group


def start(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(N, 2))


def nearest(places: np.ndarray, k: int) -> np.ndarray:
    distance = np.square(places[:, None] - places[None]).sum(2)
    np.fill_diagonal(distance, np.inf)
    return np.argsort(distance, 1)[:, :k]


def test_affinities_equal_loops():
    table = np.array([[1, 2], [0, -1], [3, 1], [-1, -1]])
    expected = np.zeros((4, 4))
    for node, row in enumerate(table):
        for other in row[row >= 0]:
            expected[node, other] += 0.5
            expected[other, node] += 0.5
    assert maps.affinities(table).toarray() == pytest.approx(expected)


def test_neighbours_lie_together_and_the_seed_says_where():
    table, group = grouped(0)
    places = maps.map_positions(table, start(0), seed=0)
    assert places.shape == (N, 2) and places.dtype == np.float32 and np.abs(places).max() == pytest.approx(1)
    assert (group[nearest(places, K)] == group[:, None]).mean() > 0.98
    kept = np.mean([len(set(a) & set(b)) for a, b in zip(table, nearest(places, K), strict=True)]) / K
    assert kept > 0.6, "chance would be 0.03"
    assert (maps.map_positions(table, start(0), seed=0) == places).all()


def test_large_graphs_on_a_grid(monkeypatch):
    for name, value in {"LARGE": N, "GATHERING": 30, "SPREADING": 10}.items():  # a grid is slow for few nodes
        monkeypatch.setattr(maps, name, value)
    table, group = grouped(0)
    places = maps.map_positions(table, start(0), seed=0)
    assert (group[nearest(places, K)] == group[:, None]).mean() > 0.9, "chance would be 0.25"


def test_a_stage_starts_from_the_one_before():
    """Groups of which few nodes change keep their places; a map of its own start has them elsewhere."""
    (table, _), (changed, _) = grouped(0), grouped(1, move=8)
    first = maps.map_positions(table, start(0), seed=0)
    after, other = (maps.map_positions(changed, begun, seed=0) for begun in (first, start(3)))
    stay = np.arange(N) >= 8
    moved = [np.linalg.norm(each[stay] - first[stay], axis=1).mean() for each in (after, other)]
    assert moved[0] < 0.5 * moved[1]


def test_equal_starts_and_missing_neighbours_are_no_error():
    table, _ = grouped(0)
    table[::3, 2:] = -1
    places = maps.map_positions(table, np.ones((N, 2)), seed=0)
    assert np.isfinite(places).all() and len(np.unique(places, axis=0)) == N
