"""The explorer in a real headless Chromium: load, click, search, slide, keys, and no error in the console."""

import os
import shutil

import pytest

FINISHED = "results/smoke-invp/seed-0/explorer.html"


@pytest.fixture(scope="module")
def browser():
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        assert not os.environ.get("CI"), "chromium and chromium-driver must be installed in CI"
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
def page(browser, finished):
    browser.get("about:blank")
    browser.get(f"file://{finished.folder / FINISHED}")
    yield browser
    errors = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert errors == []


def text(page, name: str) -> str:
    return page.find_element("id", name).text


def test_it_loads_with_neighbours_walk_and_alternative_texts(page):
    assert text(page, "anchor-name").startswith("Image 0: ")
    assert len(page.find_elements("css selector", "#neighbours .tile")) == 10
    assert len(page.find_elements("css selector", "#step-1 .tile")) == 4
    assert page.find_elements("css selector", "#hard .tile") and page.find_elements("css selector", "#easy .tile")
    thumbs = page.find_elements("css selector", ".thumb")
    assert thumbs and all(t.get_attribute("aria-label").startswith("image ") for t in thumbs)
    assert "image 0" in page.find_element("id", "map").get_attribute("aria-label")


def test_a_click_on_a_neighbour_shows_it_and_backspace_goes_back(page):
    from selenium.webdriver.common.keys import Keys

    tile = page.find_element("css selector", "#neighbours .tile")
    number = tile.get_attribute("data-number")
    tile.click()
    assert text(page, "anchor-name").startswith(f"Image {number}: ")
    page.find_element("tag name", "body").send_keys(Keys.BACKSPACE)
    assert text(page, "anchor-name").startswith("Image 0: ")


def test_a_click_on_the_map_selects_an_image(page):
    from selenium.webdriver import ActionChains

    ActionChains(page).move_to_element_with_offset(page.find_element("id", "map"), 60, 40).click().perform()
    assert not text(page, "anchor-name").startswith("Image 0: ")


@pytest.mark.parametrize("query, shown", [("123", "Image 123: "), ("class 7", ": 7")])
def test_search_by_number_and_by_class(page, query, shown):
    page.find_element("id", "query").send_keys(query)
    page.find_element("css selector", "#search button").click()
    assert shown in text(page, "anchor-name")


def test_a_search_for_nothing_says_so(page):
    page.find_element("id", "query").send_keys("zebra")
    page.find_element("css selector", "#search button").click()
    assert "No image" in page.find_element("id", "query").get_attribute("validationMessage")


def test_stages_by_slider_and_by_keys(page):
    from selenium.webdriver.common.keys import Keys

    assert text(page, "stage-name") == "2"
    before = [t.text for t in page.find_elements("css selector", "#neighbours .tile")]
    page.find_element("id", "stage").send_keys(Keys.ARROW_LEFT)
    assert text(page, "stage-name") == "1"
    assert [t.text for t in page.find_elements("css selector", "#neighbours .tile")] != before
    page.find_element("tag name", "body").send_keys("]")
    assert text(page, "stage-name") == "2"


def test_a_link_opens_an_image_of_a_stage(browser, finished):
    browser.get("about:blank")
    browser.get(f"file://{finished.folder / FINISHED}#stage=1&image=55")
    assert text(browser, "anchor-name").startswith("Image 55: ") and text(browser, "stage-name") == "1"


def test_it_asks_the_network_for_nothing(finished):
    page = (finished.folder / FINISHED).read_text()
    assert "http://" not in page and "https://" not in page


def test_it_opens_at_an_image_with_a_walk_and_leads_to_the_next_one(browser, finished, tmp_path):
    """Where walks were kept of a few images only."""
    project = finished.copy(tmp_path / "project")
    project.edit("config/experiments/smoke-invp.yaml", "stages: [1, 2]", "stages: [1, 2]\ngraph: {anchors: 5}")
    project.snakemake(FINISHED)
    browser.get("about:blank")
    browser.get(f"file://{project.folder / FINISHED}")
    first = text(browser, "anchor-name")
    assert browser.find_elements("css selector", "#hard .tile") and not first.startswith("Image 0: ")
    browser.find_element("css selector", "#neighbours .tile").click()
    browser.find_element("id", "next-walk").click()
    assert browser.find_elements("css selector", "#hard .tile")
    assert not [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
