"""docs/evaluations.md and the protocols of the evaluations name the same differences from the published ones."""

from pathlib import Path

import pytest

from invp.plumbing.plugins import load_plugin, plugin_names

PAGE = Path(__file__).resolve().parents[2] / "docs/evaluations.md"


def documented() -> dict[str, list[str]]:
    """The differences that the page's table has, by evaluation."""
    table = PAGE.read_text().split("| evaluation | published protocol |")[1].split("\n\n")[0]
    result: dict[str, list[str]] = {}
    name = ""
    for line in table.splitlines()[2:]:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        name = cells[0].strip("`") or name
        result.setdefault(name, []).append(cells[3])
        assert all(cells[1:3]) == bool(cells[0]), "the published protocol and ours stand in an evaluation's first row"
    return result


def declared(name: str) -> list[str]:
    """The differences that an evaluation's protocol may say, in order."""
    return [each for key, value in vars(load_plugin("evals", name)).items() if key.startswith("DIFFERS") for each in value]


def test_every_evaluation_is_in_the_table():
    assert set(documented()) == {"pretraining", *plugin_names("evals")}


@pytest.mark.parametrize("name", plugin_names("evals"))
def test_table_and_protocols_have_the_same_differences(name):
    assert documented()[name] == declared(name)
    assert all(" (" in each and ";" not in each and "|" not in each for each in declared(name)), (
        "ours, then in brackets the published"
    )
