"""The explorer in a real headless Chromium: every control is used, and there is no error in the console."""

import re
import shutil
from html.parser import HTMLParser

import pytest

from invp.plumbing import provenance
from invp.plumbing.files import read_json, read_table, write_json
from invp.steps import explorer
from tests.graph.browsing import complaints, opened, text, tiles
from tests.graph.explored import make_graph, make_page


def test_it_loads_with_neighbours_walk_and_alternative_texts(page):
    assert text(page, "anchor-name").startswith("Image 0: ")
    assert len(page.find_elements("css selector", "#neighbours .tile")) == 10
    assert len(page.find_elements("css selector", "#step-1 .tile")) == 4
    assert page.find_elements("css selector", "#chosen .tile") and page.find_elements("css selector", "#left .tile")
    thumbs = page.find_elements("css selector", ".thumb")
    assert thumbs and all(re.fullmatch(r"image \d+, class \d", t.get_attribute("alt")) for t in thumbs)
    assert page.execute_script("return [...document.images].every(image => image.naturalWidth === 8)")
    assert "image 0" in page.find_element("id", "map").get_attribute("aria-label")


def test_hard_positives_are_those_that_the_loss_takes_and_easy_ones_those_that_it_leaves(page, made):
    pairs = [pair for pair in read_table(made / "stage-2/positives.arrow").to_pylist() if pair["anchor"] == 0]
    taken = [pair["positive"] for pair in sorted(pairs, key=lambda pair: pair["similarity"]) if pair["chosen"]]
    left = [pair["positive"] for pair in sorted(pairs, key=lambda pair: -pair["similarity"]) if not pair["chosen"]]
    assert taken and left, "or nothing is tested"
    assert tiles(page, "chosen") == [(number, True) for number in taken[:8]]
    assert tiles(page, "left") == [(number, False) for number in left[:8]]
    second = [(pair["positive"], pair["chosen"]) for pair in pairs if pair["distance"] == 2]
    assert sorted(tiles(page, "step-2")) == sorted(second) and {chosen for _, chosen in second} == {True, False}
    headings = [heading.text for heading in page.find_elements("css selector", "#lists h3")]
    assert headings[-2:] == [
        f"Hard positives: the loss takes {len(taken)} of {len(pairs)}, the least similar",
        f"Easy positives: the loss leaves {len(left)}",
    ]
    assert "* marks what the loss takes" in text(page, "lists")


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


def test_a_link_opens_an_image_of_a_stage(browser, made):
    opened(browser, made / "explorer.html", "#stage=1&image=55")
    assert text(browser, "anchor-name").startswith("Image 55: ") and text(browser, "stage-name") == "1"


class References(HTMLParser):
    """The values of a page's attributes that name another resource, and its style and script."""

    def __init__(self, page: str):
        super().__init__()
        self.values: list[str] = []
        self.code = ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.values += [value for name, value in attributes if name in ("src", "srcset", "href", "action", "data", "poster")]

    def handle_data(self, text):
        if self.cdata_elem:
            self.code += text


def test_the_page_refers_to_no_other_file_or_host(page, made):
    text = (made / "explorer.html").read_text()
    references = References(text)
    assert references.values == ["data:,"], "the icon, which is empty"
    assert len(references.code) > 100_000 and "url(" not in references.code
    assert not re.search(r"https?:|@import|\bimport\b|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon|new Worker", references.code)
    loaded = page.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name.slice(0, 5))")
    assert set(loaded) <= {"data:"}


NASTY = [
    "<!--<script>",
    "</script><b>bold</b>",
    "</style></title>",
    "\"double\" 'single' `back` & &lt; &amp;",
    "two\nlines\u2028three",
    "Füchse 🦊 狐",
    "{{ 7 * 7 }} {% raw %} ${1 + 1}",
    "__proto__",
    "back\\slash \\u003c",
    "<img src=x onerror=\"document.title='run'\">",
]


def test_no_class_name_and_no_title_can_break_the_page(browser, made, tmp_path):
    shutil.copytree(made / "data", tmp_path / "data")
    manifest = read_json(tmp_path / "data/manifest.json")
    write_json(tmp_path / "data/manifest.json", {**manifest, "classes": NASTY})
    title = "".join(NASTY)
    page = make_page(tmp_path, tmp_path / "data", made, title=title)

    opened(browser, page)
    assert browser.title == "Neighbour graph: digits-pixels, seed 0"
    read = "return [...document.querySelectorAll(arguments[0])].map(element => element.textContent)"
    assert browser.execute_script(read, "#title") == [f"{title} (digits-pixels, seed 0)"]
    assert browser.execute_script(read, "#legend button") == NASTY
    assert browser.execute_script("return document.querySelectorAll('b:not(header b), script').length") == 3, "the page's own"
    kept = browser.execute_script("return JSON.parse(document.getElementById('data').textContent).classes")
    assert kept == NASTY
    ask = "document.getElementById('query').value = arguments[0]; document.querySelector('#search button').click()"
    for name in NASTY:
        if "\n" not in name:  # which nobody can type into a line
            browser.execute_script(ask, name)
            assert browser.execute_script(read, "#anchor-name")[0].endswith(f": {name}")
            near = [re.sub(r"-?\d\.\d{3}$", "", tile) for tile in browser.execute_script(read, "#neighbours .tile")]
            note = browser.execute_script("return document.getElementById('anchor-note').firstChild.textContent")
            assert set(near) <= set(NASTY) and all(f"{near.count(each)} x {each}" in note for each in near)
            assert browser.execute_script("return document.querySelector('#anchor .thumb').alt").endswith(f"class {name}")
    assert complaints(browser) == []


@pytest.mark.parametrize("name", ["explorer.html", "explorer.css", *explorer.SCRIPTS])
def test_an_edit_of_a_template_is_an_edit_of_the_step(name, tmp_path, monkeypatch):
    templates = tmp_path / "templates"
    shutil.copytree(provenance.TEMPLATES, templates)
    monkeypatch.setattr(provenance, "TEMPLATES", templates)
    digests = []
    for added in ("", "\n"):
        with (templates / name).open("a") as file:
            file.write(added)
        provenance.module_digest.cache_clear()
        digests.append(provenance.code_digest(["invp.steps.explorer"]))
    provenance.module_digest.cache_clear()
    assert digests[0] != digests[1]


def test_the_scripts_share_no_name():
    """They become one script with one scope, where the later of two functions would silently take the place of the other."""
    declared = r"^(?:export )?(?:async )?(?:function|const|let|class) (\w+)"
    names = [name for file in explorer.SCRIPTS for name in re.findall(declared, explorer.template(file), re.MULTILINE)]
    assert sorted(names) == sorted(set(names)) and len(names) > 50
    assert not re.search(r"^(import|export) ", explorer.one_script(), re.MULTILINE)


def test_it_opens_at_an_image_with_a_walk_and_leads_to_the_next_one(browser, made, tmp_path):
    """Where walks were kept of a few images only."""
    for stage in (1, 2):
        make_graph(tmp_path / f"stage-{stage}", made / "data", stage, anchors=3)
    opened(browser, make_page(tmp_path, made / "data", tmp_path))
    assert text(browser, "anchor-name").startswith("Image 197: ") and browser.find_elements("css selector", "#chosen .tile")
    browser.find_element("css selector", "#neighbours .tile").click()
    browser.find_element("id", "next-walk").click()
    assert browser.find_elements("css selector", "#chosen .tile")
    assert complaints(browser) == []


def test_of_a_large_set_only_images_with_all_their_neighbours_open(browser, made, tmp_path, monkeypatch):
    from selenium.webdriver.common.keys import Keys

    monkeypatch.setattr(explorer, "MOST_SHOWN", 120)
    opened(browser, make_page(tmp_path, made / "data", made))
    assert re.search(r"Of 200 images, 1[0-2]\d are shown: .* The \d+ of which no neighbour is missing", text(browser, "about"))
    table = read_table(made / "stage-2/knn.arrow")
    for _ in range(3):
        number = int(re.match(r"Image (\d+): ", text(browser, "anchor-name"))[1])
        assert [tile for tile, _ in tiles(browser, "neighbours")] == table["neighbours"][number].as_py()
        browser.find_element("tag name", "body").send_keys(Keys.ARROW_RIGHT)
    closed = browser.find_element("css selector", "#lists .tile:disabled")
    before = text(browser, "anchor-name")
    browser.execute_script("arguments[0].click()", closed)
    assert text(browser, "anchor-name") == before
    browser.find_element("id", "query").send_keys(closed.get_attribute("data-number"))
    browser.find_element("css selector", "#search button").click()
    assert text(browser, "anchor-name") == before
    assert "can be opened" in browser.find_element("id", "query").get_attribute("validationMessage")
    assert complaints(browser) == []
