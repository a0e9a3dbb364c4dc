"""The Parquet for embedding-atlas, read back: places, images and neighbours are those of the run."""

import io

import duckdb
import numpy as np
import pyarrow.parquet as parquet
import pytest
import torch
from PIL import Image

from invp.data.shards import Shards
from invp.data.tables import labels_of, matrix
from invp.plumbing.errors import UserError
from invp.plumbing.files import read_table
from invp.tools import export_graph
from tests.graph.explored import make_page


@pytest.fixture
def run_folder(made, tmp_path):
    """As a run has it: graph/stage-S, and map.arrow beside `graph`."""
    (tmp_path / "run/graph").mkdir(parents=True)
    for stage in (1, 2):
        (tmp_path / f"run/graph/stage-{stage}").symlink_to(made / f"stage-{stage}")
    (tmp_path / "run/map.arrow").symlink_to(made / "map.arrow")
    return tmp_path / "run"


def test_the_parquet_has_what_embedding_atlas_documents(run_folder, made):
    graph, places = read_table(made / "stage-1/knn.arrow"), read_table(made / "map.arrow")
    parquet.write_table(export_graph.atlas(run_folder / "graph/stage-1", made / "data"), run_folder / "atlas.parquet")
    table = parquet.read_table(run_folder / "atlas.parquet").to_pylist()
    assert [row["index"] for row in table] == list(range(200))
    assert np.array([[row["x"], row["y"]] for row in table]) == pytest.approx(matrix(places, "stage-1"))
    neighbours, similarities = matrix(graph, "neighbours"), matrix(graph, "similarities")
    labels, shards = labels_of(made / "data"), Shards(made / "data")
    for row in table:
        assert list(row["neighbors"]) == ["ids", "distances"]
        assert row["neighbors"]["ids"] == neighbours[row["index"]].tolist()
        assert row["neighbors"]["distances"] == pytest.approx(1 - similarities[row["index"]], abs=1e-6)
        assert row["class"] == str(labels[row["index"]])
        assert row["in_degree"] == (neighbours == row["index"]).sum()
    images = shards.images(torch.arange(200)).numpy()
    for row in table[::40]:
        assert (np.asarray(Image.open(io.BytesIO(row["image"]["bytes"]))) == images[row["index"], 0]).all()
    found = duckdb.sql(f"select count(*), max(len(neighbors.ids)) from '{run_folder / 'atlas.parquet'}'").fetchall()
    assert found == [(200, 10)]


def test_of_a_sample_neighbours_are_rows_of_the_file(made, run_folder, monkeypatch, tmp_path):
    from invp.steps import explorer

    monkeypatch.setattr(explorer, "MOST_SHOWN", 120)
    make_page(tmp_path / "sampled", made / "data", made)
    (run_folder / "map.arrow").unlink()
    (tmp_path / "sampled/map.arrow").rename(run_folder / "map.arrow")
    table = export_graph.atlas(run_folder / "graph/stage-2", made / "data").to_pylist()
    index = [row["index"] for row in table]
    neighbours = matrix(read_table(made / "stage-2/knn.arrow"), "neighbours")
    assert 100 < len(table) <= 120
    for row in table:
        assert [index[i] for i in row["neighbors"]["ids"]] == [n for n in neighbours[row["index"]].tolist() if n in set(index)]


def test_a_stage_without_a_map_is_an_error(made, run_folder):
    (run_folder / "graph/stage-9").symlink_to(made / "stage-1")
    with pytest.raises(UserError, match="has no map of stage-9"):
        export_graph.atlas(run_folder / "graph/stage-9", made / "data")


def test_the_command_line_writes_it_and_says_how_to_look_at_it(made, run_folder, run_invp):
    out = run_folder / "atlas.parquet"
    done = run_invp("export", "graph", run_folder / "graph/stage-2", "--to", "atlas", "--data", made / "data", "--out", out)
    assert done.returncode == 0 and f"embedding-atlas {out} --x x --y y --neighbors neighbors --image image" in done.stdout
    assert parquet.read_metadata(out).num_rows == 200
