"""How soon a map of the explorer is drawn, and how soon it answers: our canvas, Bokeh's WebGL and Plotly's scattergl, in a headless Chromium.

The same points, coloured by class, in three pages of one file each. `first_draw` is from the start of loading until the library says
that it has drawn, `answer` from a zoom until it has drawn again. Of each the least and the median over the repeats are given: a
processor with other work adds to all. Bokeh and Plotly are no dependencies: pip install bokeh plotly.

    python -m benchmarks.explorer_map --json benchmarks/results/explorer_map.json
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median

import numpy as np

from benchmarks._common import write_results
from invp.pages.html import template

FIRST_DRAW, ANSWER = 300.0, 50.0  # milliseconds, of our own page with 10,000 points
COLOURS = ["#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6", "#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"]


def points(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Ten islands: places (number x 2), within -1 and 1, and classes."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, number)
    places = generator.uniform(-0.9, 0.9, (10, 2))[labels] + generator.normal(size=(number, 2)) * 0.06
    return np.clip(places, -1, 1), labels


def ours(places: np.ndarray, labels: np.ndarray) -> str:
    """The explorer's own map alone."""
    script = template("explorer_map.js").replace("export class", "class")
    numbers = f"new Float32Array({np.round(places, 4).ravel().tolist()})"
    return f"""<!doctype html><body style="margin:0"><div id="frame" style="position:relative;width:700px;height:560px;background:#f4f7f7">
    <canvas style="position:absolute"></canvas><canvas style="position:absolute"></canvas></div><script>{script}
    const map = new GraphMap(document.getElementById("frame"), {{ choose() {{}}, hover() {{}}, select() {{}}, picture: () => null }});
    map.colouring = {{ palette: {COLOURS}, index: new Uint16Array({labels.tolist()}), faint: null }};
    map.moveTo({numbers});
    window.firstDraw = performance.now();
    window.zoom = (done) => {{ map.zoom(1.2); done(); }};
    </script></body>"""


def bokeh(places: np.ndarray, labels: np.ndarray) -> str:
    """A scatter of Bokeh with WebGL, tooltips, tap and lasso."""
    from bokeh.embed import file_html
    from bokeh.models import HoverTool
    from bokeh.plotting import figure
    from bokeh.resources import INLINE

    plot = figure(
        width=700, height=560, output_backend="webgl", tools="pan,wheel_zoom,lasso_select,tap", x_range=(-1, 1), y_range=(-1, 1)
    )
    plot.add_tools(HoverTool(tooltips=[("image", "$index")]))
    plot.scatter(places[:, 0], places[:, 1], size=5, color=[COLOURS[label] for label in labels])
    # Its document says when it is idle, which is when all is drawn.
    script = """<script>
    const look = () => {
      const [drawn] = window.Bokeh?.documents ?? [];
      if (!drawn?.is_idle) return setTimeout(look, 1);
      window.firstDraw = performance.now();
      window.zoom = (done) => {
        const [view] = Object.values(Bokeh.index.roots ?? Bokeh.index);
        const { x_range, y_range } = view.model;
        for (const range of [x_range, y_range]) range.setv({ start: range.start / 1.2, end: range.end / 1.2 });
        requestAnimationFrame(() => setTimeout(done));
      };
    };
    look();
    </script></body>"""
    return file_html(plot, INLINE).replace("</body>", script)


def plotly(places: np.ndarray, labels: np.ndarray) -> str:
    """A scattergl of Plotly."""
    import plotly.graph_objects as go

    marker = {"size": 5, "color": [COLOURS[label] for label in labels]}
    figure = go.Figure(go.Scattergl(x=places[:, 0], y=places[:, 1], mode="markers", marker=marker))
    figure.update_layout(width=700, height=560)
    script = """
    const plot = document.getElementById("{plot_id}");
    window.firstDraw = performance.now();
    let span = 1;
    window.zoom = (done) => {
      span /= 1.2;
      Plotly.relayout(plot, { "xaxis.range": [-span, span], "yaxis.range": [-span, span] }).then(done);
    };"""
    return figure.to_html(include_plotlyjs=True, post_script=script)


def browser():
    """A headless Chromium without a GPU."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=900,700"):
        options.add_argument(argument)
    options.add_argument("--enable-unsafe-swiftshader")  # WebGL by the processor
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))


def measured(driver, page: Path, repeats: int) -> dict:
    """Milliseconds until the first draw and until an answer, each the least and the median."""
    first, answers = [], []
    for _ in range(repeats):
        driver.get("about:blank")
        driver.get(page.as_uri())
        ready = "const done = arguments[0]; const look = () => window.zoom ? done(window.firstDraw) : setTimeout(look, 5); look();"
        first.append(driver.execute_async_script(ready))
        ask = "const done = arguments[0], start = performance.now(); window.zoom(() => done(performance.now() - start));"
        answers += [driver.execute_async_script(ask) for _ in range(3)]
    shot = {
        name: {"least": round(min(times), 1), "median": round(median(times), 1)}
        for name, times in (("first_draw", first), ("answer", answers))
    }
    return {"page_megabytes": round(page.stat().st_size / 1e6, 2), **shot}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--points", type=int, nargs="+", default=[10_000])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--makers", nargs="+", default=["ours", "bokeh", "plotly"], choices=["ours", "bokeh", "plotly"])
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    makers, found = {"ours": ours, "bokeh": bokeh, "plotly": plotly}, {}
    driver = browser()
    try:
        driver.set_script_timeout(120)
        with tempfile.TemporaryDirectory() as folder:
            for number in arguments.points:
                for name in arguments.makers:
                    page = Path(folder) / f"{name}-{number}.html"
                    page.write_text(makers[name](*points(number)), encoding="utf-8")
                    found[f"{name}, {number:,} points"] = measured(driver, page, arguments.repeats)
                    print(f"{name:8} {number:>7,} points: {found[f'{name}, {number:,} points']}", flush=True)
    finally:
        driver.quit()
    if arguments.json:
        write_results(arguments.json, {"milliseconds": found})
    own = found.get("ours, 10,000 points")
    return int(own is not None and (own["first_draw"]["least"] > FIRST_DRAW or own["answer"]["least"] > ANSWER))


if __name__ == "__main__":
    sys.exit(main())
