import json
import os

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from invp.plumbing.errors import UserError
from invp.plumbing.files import atomic_path, canonical_json, read_json, read_table, sha256_of, table_record, write_json, write_table


def test_an_error_while_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_table_keeps_its_record(tmp_path):
    path = tmp_path / "t.arrow"
    write_table(path, pa.table({"index": [1, 2, 3]}), {"seed": 3})
    table = read_table(path)
    assert table["index"].to_pylist() == [1, 2, 3]
    assert table_record(table) == {"seed": 3}


def test_nan_is_not_written_as_json(tmp_path):
    with pytest.raises(ValueError):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert not (tmp_path / "a.json").exists()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.recursive(st.integers() | st.text() | st.booleans() | st.none(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)))
def test_canonical_json_forgets_only_the_order_of_keys(value):
    def turned(v):
        if isinstance(v, dict):
            return {k: turned(v[k]) for k in reversed(list(v))}
        return [turned(x) for x in v] if isinstance(v, list) else v

    assert canonical_json(value) == canonical_json(turned(value))
    assert json.loads(canonical_json(value)) == value


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_mutated_table_is_right_or_a_clear_error(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    path = folder / "t.arrow"
    write_table(path, pa.table({"index": list(range(50)), "source": [f"image {i}" for i in range(50)]}), {"seed": 0})
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    for _ in range(data.draw(st.integers(0, 4))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(bytes(content))
    try:
        table = read_table(path)
    except UserError as error:
        assert str(path) in str(error)
    else:
        assert table.num_columns <= 2 and table.num_rows <= 50


def test_missing_and_damaged_json_say_which_file(tmp_path):
    with pytest.raises(UserError, match="missing.json does not exist"):
        read_json(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_bytes(b'{"a": \xff')
    with pytest.raises(UserError, match="bad.json is not valid JSON"):
        read_json(tmp_path / "bad.json")


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_matrix_has_a_line_a_row_and_comes_back_as_it_was(tmp_path):
    """A confusion of a thousand classes was a million lines."""
    value = {
        "confusion": [[i * j % 7 for j in range(50)] for i in range(50)],
        "names": ["a [\n1,\n2]", "b"],
        "empty": [],
        "mixed": [1, None, -2.5e-7],
    }
    write_json(tmp_path / "m.json", value)
    text = (tmp_path / "m.json").read_text()
    assert read_json(tmp_path / "m.json") == value
    assert text.count("\n") < 70 and "[1, null, -2.5e-07]" in text
