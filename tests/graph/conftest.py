"""The page of an explorer, and a browser that has it open."""

from pathlib import Path

import pytest

from tests.graph.browsing import complaints, opened
from tests.graph.explored import make_dataset, make_graph, make_page


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with the prepared set `data`, the graphs `stage-1` and `stage-2`, the page of an explorer and its map."""
    folder = tmp_path_factory.mktemp("explored")
    make_dataset(folder / "data")
    for stage in (1, 2):
        make_graph(folder / f"stage-{stage}", folder / "data", stage)
    make_page(folder, folder / "data", folder)
    return folder


@pytest.fixture
def page(browser, made):
    yield opened(browser, made / "explorer.html")
    assert complaints(browser) == []
