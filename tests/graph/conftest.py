"""A browser, and the page of an explorer to look at with it."""

import os
import shutil
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


@pytest.fixture(scope="module")  # a browser left open takes half a core for the cursor in its field
def browser():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        assert not os.environ.get("CI"), "chromium and chromium-driver must be installed in CI"
        # A user who runs the tests need not install a browser for them.
        pytest.skip("chromium and chromedriver are not installed")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1366,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser, made):
    yield opened(browser, made / "explorer.html")
    assert complaints(browser) == []
