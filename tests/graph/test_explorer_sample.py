"""What the explorer shows of a set that is larger than its page: anchors with all their neighbours and positives of every stage."""

import base64
import json
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from invp.data.tables import fixed_size_list
from invp.plumbing.files import read_json, write_json, write_table
from invp.plumbing.jobs import Job
from invp.steps import explorer

N, K, LIMIT = 120, 3, 40
WALKED = np.arange(0, N, 4)  # the anchors whose positives were kept


@pytest.fixture
def graphs(tmp_path, monkeypatch) -> list:
    """Folders of two stages: neighbours and positives mostly of the same block of twenty images, as of a class."""
    monkeypatch.setattr(explorer, "MOST_SHOWN", LIMIT)
    folders = []
    for stage in (1, 2):
        rng, folder = np.random.default_rng(stage), tmp_path / f"stage-{stage}"
        block = np.arange(N)[:, None] // 20 * 20
        neighbours = (block + (np.arange(N)[:, None] % 20 + rng.integers(1, 6, (N, K)).cumsum(1)) % 20).astype(np.int64)
        table = {
            "index": np.arange(N),
            "neighbours": fixed_size_list(neighbours),
            "similarities": fixed_size_list(rng.random((N, K), np.float32)),
        }
        write_table(folder / "knn.arrow", pa.table({**table, "position": fixed_size_list(rng.random((N, 2)))}))
        anchors = rng.permutation(np.repeat(WALKED, 4))  # in no order
        positives = anchors // 20 * 20 + rng.integers(0, 20, len(anchors))
        chosen = rng.random(len(anchors)) < 0.5
        columns = {"anchor": anchors, "positive": positives, "distance": np.full(len(anchors), 2, np.int8)}
        write_table(
            folder / "positives.arrow", pa.table({**columns, "similarity": rng.random(len(anchors), np.float32), "chosen": chosen})
        )
        write_json(folder / "summary.json", {"measures": {"same_class_share": 0.5}})
        folders.append(SimpleNamespace(folder=folder, neighbours=neighbours, anchors=anchors, positives=positives))
    return folders


def needed(graphs: list, number: int) -> set[int]:
    """All that belongs to an image, by plain loops."""
    found = {number}
    for graph in graphs:
        found |= set(graph.neighbours[number].tolist())
        found |= {int(p) for a, p in zip(graph.anchors, graph.positives, strict=True) if a == number}
    return found


def test_no_image_is_opened_without_its_neighbours_and_the_page_is_full(graphs):
    read = [explorer.Graph(graph.folder, N) for graph in graphs]
    shown, opened = explorer.sample(read, N, seed=0)
    assert len(shown) <= LIMIT and shown.tolist() == sorted(set(shown.tolist()))
    for number, opens in zip(shown, opened, strict=True):
        assert opens == (needed(graphs, number) <= set(shown.tolist())), number
    assert 1 < opened.sum() < len(shown), "or nothing is tested"
    assert set(shown) == set().union(*(needed(graphs, number) for number in shown[opened])), "none is there for nothing"
    assert set(shown[opened]) & set(WALKED), "anchors with walks come first"


def test_the_sample_is_drawn_by_the_seed(graphs):
    read = [explorer.Graph(graph.folder, N) for graph in graphs]
    first, again, other = (explorer.sample(read, N, seed)[0].tolist() for seed in (0, 0, 1))
    assert first == again != other


def test_one_anchor_is_shown_whole_even_if_it_alone_is_too_much(graphs, monkeypatch):
    monkeypatch.setattr(explorer, "MOST_SHOWN", 2)
    shown, opened = explorer.sample([explorer.Graph(graph.folder, N) for graph in graphs], N, seed=0)
    assert opened.any() and len(shown) > 2


def test_a_set_that_fits_is_shown_and_opened_whole(graphs, monkeypatch):
    monkeypatch.setattr(explorer, "MOST_SHOWN", N)
    shown, opened = explorer.sample([explorer.Graph(graph.folder, N) for graph in graphs], N, seed=0)
    assert shown.tolist() == list(range(N)) and opened.all()


def numbers_in(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_lists_and_shares_are_those_of_the_whole_graph(graphs):
    graph = explorer.Graph(graphs[1].folder, N)
    shown, opened = explorer.sample([explorer.Graph(each.folder, N) for each in graphs], N, seed=0)
    data = json.loads(json.dumps(explorer.stage_data(graph, shown, opened)))
    neighbours = numbers_in(data["neighbours"], "<i4").reshape(len(shown), K)
    offsets, positives = (numbers_in(data["walks"][name], "<i4") for name in ("offsets", "positives"))
    similarities = numbers_in(data["walks"]["similarities"], "<f4")
    own = {name: graph.pairs[name] for name in ("anchor", "positive", "similarity")}
    for place, (number, opens) in enumerate(zip(shown, opened, strict=True)):
        walk = slice(offsets[place], offsets[place + 1])
        if opens:
            assert shown[neighbours[place]].tolist() == graphs[1].neighbours[number].tolist()
            of_image = own["anchor"] == number
            assert shown[positives[walk]].tolist() == own["positive"][of_image].tolist()
            assert similarities[walk].tolist() == own["similarity"][of_image].tolist()
        else:
            assert (neighbours[place] == -1).all() and not len(positives[walk])


def test_a_neighbour_that_an_approximate_search_did_not_find_is_no_image(graphs):
    read = [explorer.Graph(graph.folder, N) for graph in graphs]
    read[0].neighbours = np.where(np.arange(K) == K - 1, -1, read[0].neighbours)
    shown, opened = explorer.sample(read, N, seed=0)
    assert (shown >= 0).all() and opened.any()
    neighbours = numbers_in(explorer.stage_data(read[0], shown, opened)["neighbours"], "<i4").reshape(len(shown), K)
    assert (neighbours[:, -1] == -1).all() and (neighbours[opened, 0] >= 0).all()


def test_the_page_of_a_large_set_says_what_it_opens(graphs, digits, tmp_path):
    """A whole page of a set of 360 images whose graph is that of the first N, and of N more that are alike."""
    manifest = read_json(digits["test"] / "manifest.json")
    total = manifest["num_samples"]
    again = np.arange(total) % N
    for graph in graphs:
        table = {
            "index": np.arange(total),
            "neighbours": fixed_size_list(graph.neighbours[again]),
            "position": fixed_size_list(np.ones((total, 2))),
        }
        write_table(
            graph.folder / "knn.arrow", pa.table({**table, "similarities": fixed_size_list(np.ones((total, K), np.float32))})
        )
    section = {"name": "a", "title": "", "seed": 0, "stages": [1, 2], "objective": {"positives": "hard", "steps": 2}}
    inputs = {"graph": [graph.folder / "knn.arrow" for graph in graphs], "dataset": [digits["test"] / "manifest.json"]}
    outputs = {"page": tmp_path / "page.html", "map": tmp_path / "map.arrow"}
    explorer.run(Job("explorer", section, inputs, outputs, "no code"))
    page = (tmp_path / "page.html").read_text()
    data = json.loads(page.split('id="data">')[1].split("</script>")[0])
    opened = numbers_in(data["opened"], "u1")
    assert data["total"] == total and data["shown"] == len(opened) <= LIMIT and 0 < opened.sum() < len(opened)
    assert data["walked"] == len(WALKED) and [stage["measures"] for stage in data["stages"]] == [{"same_class_share": 0.5}] * 2
