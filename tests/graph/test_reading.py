"""The graph's file in other tools, as docs/graphs.md has it; and the terminal's way to look at it."""

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
BLOCK = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "graphs.md").read_text(), re.S)[1]


def test_polars_and_duckdb_read_it_in_the_lines_of_the_docs(finished, monkeypatch):
    polars, duckdb = pytest.importorskip("polars"), pytest.importorskip("duckdb")
    monkeypatch.chdir(finished.folder / "results/smoke-invp/seed-0/graph/stage-2")
    names = {"polars": polars, "duckdb": duckdb}
    lines = [line for line in BLOCK.splitlines() if line.strip()]
    exec("\n".join(line for line in lines if not line.startswith(("polars", "duckdb"))), names)
    frame = eval(next(line for line in lines if line.startswith("polars")), names)
    table = names["table_"]
    assert (
        frame["index"].to_list() == table["index"].to_pylist() and frame["neighbours"].to_list() == table["neighbours"].to_pylist()
    )
    query = next(line for line in lines if line.startswith("duckdb"))
    found = eval(query, names).fetchall()
    first = np.array([row[0] for row in table["similarities"].to_pylist()])
    assert len(found) == len(first) == 1437 and [row[1] for row in found] == pytest.approx(-np.sort(-first))
    assert isinstance(table, pa.Table)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--anchor", "5"], ["rank", "similarity", "class 5"]),
        (["--path", "5", "900"], ["5", "900"]),
        (["--hubs"], ["in-degree"]),
        (["--confused", "3", "8"], ["3", "8"]),
        (["--compare", "results/smoke-invp/seed-0/graph/stage-1"], ["the same in", "kept"]),
    ],
)
def test_the_terminal_answers_and_draws(finished, tmp_path, arguments, words):
    out = tmp_path / "sheet.png"
    sheet = [] if "--compare" in arguments else ["--sheet", str(out)]
    said = finished.invp("inspect", "graph", "results/smoke-invp/seed-0/graph/stage-2", *arguments, *sheet)
    for word in words:
        assert word in said.lower(), said
    assert not sheet or out.stat().st_size > 500
