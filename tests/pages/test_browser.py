"""The pages in a real headless Chromium: axe-core, dark, on a phone, printed, by the keyboard."""

from pathlib import Path

import pytest
from hostile import hostile_study

from invp.pages.index import write_index
from invp.steps import report

PAGES = ("report", "comparison", "index")
pytestmark = pytest.mark.filterwarnings("ignore:Glyph .* missing from font")  # matplotlib's font has no fox


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    """The three pages of a study by name, where the workflow has them."""
    results = tmp_path_factory.mktemp("pages") / "results"
    study, folder = hostile_study(results), results / "studies/hostile"
    job = study.job("report", "record")
    job.outputs |= {"page": folder / "report.html", "comparison": folder / "comparison.html", "overview": folder / "report.json"}
    report.run(job)
    for run in ("a", "b"):
        (results / run / "seed-0/explorer.html").touch()
    return {"report": job.outputs["page"], "comparison": job.outputs["comparison"], "index": write_index(results)}


@pytest.fixture(params=PAGES)
def page(request, browser, pages):
    """Each of the pages; it must leave no complaint in the console."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    browser.get(f"file://{pages[request.param]}")
    yield browser
    assert [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


def sized(page, width: int, media: str = "") -> None:
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": []})


def unfolded(page) -> None:
    page.execute_script("document.querySelectorAll('details').forEach(each => each.open = true)")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page, axe, scheme):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    unfolded(page)
    light = page.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert light == (scheme == "light")
    page.execute_script(axe)
    found = page.execute_async_script("const done = arguments[0]; axe.run().then(done)")
    assert found["passes"], "it looked at something"
    assert {each["id"]: [node["html"][:200] for node in each["nodes"]] for each in found["violations"]} == {}


def test_a_phone_scrolls_wide_tables_and_not_the_page(page):
    sized(page, 375)
    unfolded(page)
    assert page.execute_script("return document.documentElement.scrollWidth") <= 375
    assert page.execute_script("return [...document.querySelectorAll('.scroll')].every(each => each.clientWidth <= 375)")


def test_print_cuts_no_table_and_folds_nothing_away(page):
    sized(page, 680, "print")  # A4 between its margins, in pixels
    assert page.execute_script("return document.documentElement.scrollWidth") <= 680
    wide = (
        "return [...document.querySelectorAll('.scroll')].filter(e => e.firstElementChild.offsetWidth > e.clientWidth + 1).length"
    )
    assert page.execute_script(wide) == 0
    folded = (
        "return [...document.querySelectorAll('details > :not(summary)')].filter(e => !e.getBoundingClientRect().height).length"
    )
    assert page.execute_script(folded) == 0
    kept = "return [...document.querySelectorAll('section')].filter(e => getComputedStyle(e).breakInside != 'auto').length"
    assert page.execute_script(kept) == 0, "what is kept whole and is taller than a page leaves an empty one"
    assert page.execute_script("return [...document.querySelectorAll('nav')].every(e => e.offsetHeight == 0)")


def test_the_keyboard_reaches_the_content_first_and_every_wide_table(page):
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.keys import Keys

    ActionChains(page).send_keys(Keys.TAB, Keys.ENTER).perform()
    assert page.execute_script("return location.hash + document.activeElement.tagName") == "#mainMAIN"
    assert page.execute_script("return [...document.querySelectorAll('.scroll')].every(each => each.tabIndex === 0)")


def test_the_contents_name_every_part_that_is_there(page):
    listed = page.execute_script("return [...document.querySelectorAll('nav a')].map(e => [e.getAttribute('href'), e.textContent])")
    headings = page.execute_script("return [...document.querySelectorAll('main h2[id]')].map(e => ['#' + e.id, e.textContent])")
    assert [each for each in listed if each[0] != "#first-screen"] == headings


def test_tables_have_captions_and_headings_with_a_scope(page):
    lacking = "return [...document.querySelectorAll('table')].filter(e => !e.caption || !e.caption.textContent.trim()).length"
    assert page.execute_script(lacking) == 0
    assert page.execute_script("return [...document.querySelectorAll('th')].filter(e => !e.scope).length") == 0
    rows = "return [...document.querySelectorAll('tbody tr')].filter(e => !e.querySelector('th[scope=row]')).length"
    assert page.execute_script(rows) == 0
