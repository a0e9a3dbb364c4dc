"""Discovery of positives against invp.core.reference and a library's breadth-first search."""

import networkx
import pytest
import torch

from invp.core import reference
from invp.core.neighbours import ABSENT
from invp.core.propagation import discover


def random_table(num_samples: int, k: int, *, components: int = 1, absent: float = 0.0, seed: int = 0) -> torch.Tensor:
    """A directed graph of k neighbours in which no edge leaves its component."""
    generator = torch.Generator().manual_seed(seed)
    component = torch.arange(num_samples) % components
    table = torch.empty(num_samples, k, dtype=torch.long)
    for i in range(num_samples):
        others = [j for j in range(num_samples) if j != i and component[j] == component[i]]
        chosen = [others[j] for j in torch.randperm(len(others), generator=generator).tolist()[:k]]
        table[i] = torch.tensor(chosen + [ABSENT] * (k - len(chosen)))
    return table.masked_fill(torch.rand(num_samples, k, generator=generator) < absent, ABSENT)


def by_reference(table: torch.Tensor, anchor: int, steps: int) -> dict[int, int]:
    """The positives by equation (3), with the smallest number of steps that reaches each."""
    graph = [[j for j in row if j != ABSENT] for row in table.tolist()]
    distances: dict[int, int] = {}
    for step in range(1, steps + 1):
        for j in reference.positives(graph, anchor, step):
            distances.setdefault(j, step)
    return distances


@pytest.mark.parametrize(
    ("num_samples", "k", "components", "absent"), [(60, 4, 1, 0), (60, 4, 7, 0), (30, 2, 3, 0.4), (4, 4, 1, 0)]
)
@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_the_union_equals_the_reference_and_the_graph_distance(num_samples, k, components, absent, steps):
    table = random_table(num_samples, k, components=components, absent=absent, seed=steps)
    anchors = torch.tensor([0, num_samples - 1, 2, 0])  # an anchor twice
    positives = discover(table, anchors, steps)
    assert positives.index.shape == (4, sum(k**s for s in range(1, steps + 1)))
    graph = networkx.DiGraph((i, j) for i, row in enumerate(table.tolist()) for j in row if j != ABSENT)
    graph.add_nodes_from(range(num_samples))
    for row, anchor in enumerate(anchors.tolist()):
        mask = positives.mask[row]
        nodes, distances = positives.index[row][mask].tolist(), positives.distance[row][mask].tolist()
        assert len(nodes) == len(set(nodes))
        assert dict(zip(nodes, distances, strict=True)) == by_reference(table, anchor, steps)
        lengths = networkx.single_source_shortest_path_length(graph, anchor, cutoff=steps)
        assert dict(zip(nodes, distances, strict=True)) == {j: d for j, d in lengths.items() if j != anchor}
    assert (positives.index[~positives.mask] == 0).all()


def test_the_bound_on_the_number_of_positives_is_reached():
    table = torch.arange(1, 4001).clamp(max=1999).view(1000, 4)  # a tree: node n has the children 4n+1 .. 4n+4
    table = torch.cat([table, torch.full((1000, 4), ABSENT)])
    for steps, bound in ((1, 4), (2, 20), (3, 84), (4, 340)):
        assert discover(table, torch.tensor([0]), steps).mask.sum() == bound


def test_concatenation_keeps_repeats_and_the_anchor():
    table = torch.tensor([[1, 2], [0, 2], [0, 1]])
    positives = discover(table, torch.tensor([0]), 3, union=False)
    expected = [1, 2] + [0, 2, 0, 1] + [1, 2, 0, 1, 1, 2, 0, 2]
    assert positives.index.tolist() == [expected] and positives.mask.all()
    assert positives.distance.tolist() == [[1] * 2 + [2] * 4 + [3] * 8]
    assert sorted(discover(table, torch.tensor([0]), 3).index[0].unique().tolist()) == [0, 1, 2]


def test_a_node_without_neighbours_has_no_positives():
    assert not discover(torch.full((5, 3), ABSENT), torch.tensor([1, 4]), 3).mask.any()
