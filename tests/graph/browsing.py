"""What tests of a page in a browser share."""


def complaints(browser) -> list[dict]:
    """What the browser wrote to its console since it was asked last."""
    return [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]


def opened(browser, path, address: str = ""):
    browser.get("about:blank")
    browser.get(f"file://{path}{address}")
    return browser


def text(page, name: str) -> str:
    return page.find_element("id", name).text


def tiles(page, name: str) -> list[tuple[int, bool]]:
    """Number of each image of a list, and whether it has a star."""
    read = "return [...document.querySelectorAll(arguments[0])].map(tile => [Number(tile.dataset.number), tile.innerText.endsWith('*')])"
    return [tuple(tile) for tile in page.execute_script(read, f"#{name} .tile")]
