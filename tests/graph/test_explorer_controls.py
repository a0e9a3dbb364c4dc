"""What the explorer's map, lists, selection and second run do, by the controls that a user has; and that axe-core finds nothing."""

import re

import numpy as np
import pytest
from selenium.webdriver import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

from invp.core.graph_measures import class_votes, in_degree, outlier_ranks, overlap
from invp.data.tables import labels_of, matrix
from invp.plumbing.files import read_table
from tests.graph.browsing import complaints, opened, text, tiles
from tests.graph.explored import make_graph, make_page


def pixels(page, layer: int = 0) -> str:
    """What the points (layer 0) or the lines (1) of the map show."""
    return page.execute_script("return document.querySelectorAll('#frame canvas')[arguments[0]].toDataURL()", layer)


def press(page, name: str) -> None:
    page.find_element("id", name).click()


def graph(made, stage: int) -> tuple[np.ndarray, np.ndarray]:
    table = read_table(made / f"stage-{stage}/knn.arrow")
    return matrix(table, "neighbours"), matrix(table, "similarities")


def numbers_in(page, name: str) -> list[int]:
    return [number for number, _ in tiles(page, name)]


def test_buttons_keys_wheel_and_drag_move_the_map(page):
    whole = pixels(page)
    seen = {whole}
    for act in (
        lambda: press(page, "zoom-in"),
        lambda: press(page, "zoom-out") or press(page, "zoom-out"),
        lambda: page.find_element("id", "map").send_keys("+", "+", "+"),
        lambda: page.find_element("id", "map").send_keys(Keys.SHIFT, Keys.ARROW_LEFT),
        lambda: ActionChains(page).drag_and_drop_by_offset(page.find_element("id", "map"), 70, 30).perform(),
    ):
        act()
        assert pixels(page) not in seen
        seen.add(pixels(page))
    before = text(page, "anchor-name")
    press(page, "fit")
    assert pixels(page) == whole and text(page, "anchor-name") == before, "a drag is no click"
    page.execute_script(
        "document.getElementById('map').dispatchEvent(new WheelEvent('wheel', {deltaY: -400, cancelable: true, clientX: 200, clientY: 300}))"
    )
    assert pixels(page) != whole


def test_a_click_on_a_point_chooses_it_and_a_pointer_over_it_shows_it(page):
    folder = page.current_url.removeprefix("file://").rsplit("/", 1)[0]
    places = matrix(read_table(f"{folder}/map.arrow"), "stage-2")
    frame = page.find_element("id", "frame")
    width, height = (page.execute_script(f"return document.getElementById('frame').client{side}") for side in ("Width", "Height"))
    scale = min(width, height) / 2 - 14
    number = int(np.argmin(places[:, 0]))  # alone at the edge
    offset = [round(value) for value in (places[number, 0] * scale, -places[number, 1] * scale)]
    ActionChains(page).move_to_element_with_offset(frame, *offset).perform()
    tip = page.find_element("id", "tip")
    assert tip.is_displayed() and f"image {number}: " in tip.text and tip.find_element("tag name", "img")
    ActionChains(page).click().perform()
    assert text(page, "anchor-name").startswith(f"Image {number}: ")
    assert re.search(rf"image {number} is marked", page.find_element("id", "map").get_attribute("aria-label"))


@pytest.mark.parametrize("stage", [1, 2])
def test_measures_of_an_image_are_those_of_the_graph(browser, made, stage):
    opened(browser, made / "explorer.html", f"#stage={stage}&image=33")
    neighbours, similarities = graph(made, stage)
    words = text(browser, "anchor-note")
    assert f"in-degree {in_degree(neighbours)[33]}," in words
    assert f"outlier rank {outlier_ranks(similarities)[33]}" in words
    changed = round(100 * (1 - overlap(graph(made, 2)[0], graph(made, 1)[0])[33]))
    assert (f"{changed} % of its neighbours changed" in words) == (stage == 2)


def test_colours_by_class_and_measures_and_the_legend_shows_one_class_alone(page):
    select = Select(page.find_element("id", "colour"))
    seen = {pixels(page)}
    for name in ("in-degree", "same-class share", "changed since the last stage", "outlier rank"):
        select.select_by_visible_text(name)
        assert pixels(page) not in seen and len(page.find_elements("css selector", "#legend .scale")) == 1
        seen.add(pixels(page))
    select.select_by_visible_text("class")
    assert pixels(page) in seen
    button = page.find_elements("css selector", "#legend button")[3]
    button.click()
    assert button.get_attribute("aria-pressed") == "true" and pixels(page) not in seen and text(page, "random") == "3 (r)"
    press(page, "random")
    assert text(page, "anchor-name").endswith(": 3")
    page.find_element("tag name", "body").send_keys("[")
    assert "changed since the last stage" not in [option.text for option in Select(page.find_element("id", "colour")).options]


def test_lines_to_neighbours_and_along_the_walk(page):
    seen = {pixels(page, 1)}
    for name in ("walks", "edges", "walks"):
        press(page, name)
        assert pixels(page, 1) not in seen
        seen.add(pixels(page, 1))


def test_a_lasso_selects_and_the_numbers_can_be_copied(page, made):
    press(page, "lasso")
    chain = ActionChains(page).move_to_element_with_offset(page.find_element("id", "map"), -200, -150).click_and_hold()
    for x, y in ((200, 0), (0, 300), (-200, 0)):
        chain.move_by_offset(x, y)
    chain.release().perform()
    numbers = [int(number) for number in page.find_element("id", "numbers").get_attribute("value").split()]
    places = matrix(read_table(made / "map.arrow"), "stage-2")
    size = page.execute_script("const f = document.getElementById('frame'); return [f.clientWidth, f.clientHeight]")
    at = places * [1, -1] * (min(size) / 2 - 14)
    within = np.flatnonzero((at[:, 0] > -200) & (at[:, 0] < 0) & (np.abs(at[:, 1]) < 150))
    assert 0 < len(numbers) < 200 and len(set(numbers) ^ set(within.tolist())) <= 3, "but for those on the line"
    assert text(page, "selection-title") == f"{len(numbers)} images are selected"
    assert len(page.find_elements("css selector", ".grid img")) == len(numbers)
    labels = labels_of(made / "data")
    for label in set(labels[numbers].tolist()):
        assert f"{(labels[numbers] == label).sum()} x {label}" in text(page, "selection")
    mean = in_degree(graph(made, 2)[0])[numbers].mean()
    assert f"in-degree {mean:.2f} 10.00" in text(page, "selection")
    press(page, "copy")
    assert re.match("Copied|Marked", text(page, "copy"))
    page.find_element("css selector", ".grid button").click()
    assert text(page, "anchor-name").startswith(f"Image {numbers[0]}: ")
    page.find_element("tag name", "body").send_keys(Keys.ESCAPE)
    assert text(page, "selection-title") == "No image is selected"


def test_what_is_in_view_is_selected_without_a_pointer(page):
    page.find_element("tag name", "body").send_keys("v")
    assert text(page, "selection-title") == "200 images are selected"
    page.find_element("id", "clear").click()
    for _ in range(4):
        press(page, "zoom-in")
    press(page, "select-view")
    assert 0 < int(text(page, "selection-title").split()[0]) < 200


def test_lists_are_those_of_the_graph(page, made):
    press(page, "tab-lists")
    select = Select(page.find_element("id", "list"))
    (neighbours, similarities), labels = graph(made, 2), labels_of(made / "data")
    degree, changed = in_degree(neighbours), 1 - overlap(neighbours, graph(made, 1)[0])
    voted, share, _ = class_votes(neighbours, labels, 10)
    doubtful = [i for i in np.argsort(-share, kind="stable") if voted[i] != labels[i]]
    expected = {
        "Hubs": np.argsort(-degree, kind="stable"),
        "Never a neighbour": np.flatnonzero(degree == 0),
        "Outliers": np.argsort(outlier_ranks(similarities)),
        "Changed most": [i for i in np.argsort(-changed, kind="stable") if changed[i] > 0],
        "Likely mislabelled": doubtful,
    }
    for name, images in expected.items():
        select.select_by_visible_text(name)
        assert numbers_in(page, "list-images") == [int(i) for i in images[:60]], name
    press(page, "select-list")
    assert text(page, "selection-title").startswith(f"{len(doubtful)} image")


def test_confused_classes_and_the_edges_between_them(page, made):
    press(page, "tab-lists")
    Select(page.find_element("id", "list")).select_by_visible_text("Confused classes")
    button = page.find_element("css selector", "#listed .row button")
    one, other, share = re.fullmatch(r"(\d) to (\d): ([\d.]+) %", button.text).groups()
    neighbours, labels = graph(made, 2)[0], labels_of(made / "data")
    mine = labels == int(one)
    assert float(share) == pytest.approx(100 * (labels[neighbours[mine]] == int(other)).mean(), abs=0.051)
    button.click()
    pairs = np.reshape(numbers_in(page, "list-images"), (-1, 2))
    assert len(pairs) and all(labels[a] == int(one) and labels[b] == int(other) and b in neighbours[a] for a, b in pairs)


def test_a_path_leads_along_edges_by_the_fewest_steps(page, made):
    from invp.tools.inspect_graph import shortest_path

    press(page, "tab-lists")
    lines = pixels(page, 1)
    page.find_element("id", "path-end").send_keys("150", Keys.ENTER)
    path, neighbours = numbers_in(page, "path-images"), graph(made, 2)[0]
    assert path[0] == 0 and path[-1] == 150 and all(b in neighbours[a] for a, b in zip(path, path[1:], strict=False))
    assert len(path) == len(shortest_path(neighbours, 0, 150)) > 2 and pixels(page, 1) != lines
    page.find_element("id", "path-end").send_keys("9999", Keys.ENTER)
    assert "No image" in page.find_element("id", "path-end").get_attribute("validationMessage")


def test_stages_play_and_the_images_move(page):
    last = pixels(page)
    press(page, "play")
    assert text(page, "stage-name") == "1" and text(page, "play") == "Stop"
    wait = "const done = arguments[0]; const look = () => document.getElementById('play').textContent === 'Play' ? setTimeout(done, 900) : setTimeout(look, 50); look();"
    page.execute_async_script(wait)
    assert text(page, "stage-name") == "2" and pixels(page) == last


def test_tabs_by_the_keyboard(page):
    press(page, "tab-image")
    for name in ("selection", "lists", "second", "image"):
        page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
        assert page.switch_to.active_element.get_attribute("id") == f"tab-{name}"
        assert page.find_element("id", f"panel-{name}").is_displayed()
        assert len(page.find_elements("css selector", "[role=tabpanel]:not([hidden])")) == 1


def test_a_second_run_of_the_same_images_is_shown_beside(page, made, tmp_path):
    for stage in (1, 2):
        make_graph(tmp_path / f"stage-{stage}", made / "data", stage, noise=90)
    other = make_page(tmp_path, made / "data", tmp_path, name="another", seed=3)
    press(page, "tab-second")
    field = page.find_element("id", "second-file")
    (tmp_path / "report.html").write_text("<p>no explorer</p>")
    for file, words in ((tmp_path / "report.html", "is no explorer's page"), (other, "another, seed 3) is shown")):
        field.send_keys(str(file))
        page.execute_async_script("setTimeout(arguments[0], 500)")
        assert words in text(page, "second-note")
    ours, theirs = (set(graph(folder, 2)[0][0].tolist()) for folder in (made, tmp_path))
    for name, expected in (("in-both", ours & theirs), ("in-first", ours - theirs), ("in-second", theirs - ours)):
        assert set(numbers_in(page, name)) == expected, name
    assert ours != theirs and page.find_element("id", "second-map").is_displayed()
    number = numbers_in(page, "in-second")[0]
    page.find_element("css selector", "#in-second .tile").click()
    assert text(page, "anchor-name") == "" and page.find_element("id", "panel-second").is_displayed(), "the tab stays"
    assert f"image={number}" in page.current_url


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_in_any_panel(page, axe, scheme):
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
    page.find_element("tag name", "body").send_keys("v")
    page.execute_script(axe)
    for name in ("image", "selection", "lists", "second"):
        press(page, f"tab-{name}")
        found = page.execute_async_script("const done = arguments[0]; axe.run().then((result) => done(result.violations))")
        assert [(each["id"], [node["html"][:200] for node in each["nodes"]]) for each in found] == [], name
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert complaints(page) == []


def test_nothing_is_wider_than_a_phone(page):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    )
    for name in ("image", "selection", "lists", "second"):
        page.execute_script(f"document.getElementById('tab-{name}').click()")
        assert page.execute_script("return document.documentElement.scrollWidth") <= 390, name
    page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
