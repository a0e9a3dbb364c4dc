// Lists over the whole graph, paths, and what is said of a selection.
import { edgesBetween, labelName, listsOf, MEASURES, shortestPath } from "./explorer_data.js";
import { byId, grid, list, make, table, tally } from "./explorer_elements.js";

const MOST_PAIRS = 12; // of classes that are confused

/** What the choice of a list offers at a stage. */
export function drawChoices(run, stage) {
  const select = byId("list");
  const before = select.value;
  const names = Object.entries(listsOf(run, stage)).map(([value, { name }]) => [value, name]);
  if (stage.confused.length) names.push(["confused", "Confused classes"]);
  select.replaceChildren(...names.map(([value, name]) => make("option", { value }, name)));
  if (names.some(([value]) => value === before)) select.value = before;
}

/** Shows the list that is chosen; returns the places in it. */
export function drawList(run, stage, choose) {
  const name = byId("list").value;
  if (name === "confused") {
    drawConfused(run, stage, choose);
    return [];
  }
  const { name: title, about, places: found, caption } = listsOf(run, stage)[name];
  const places = found();
  const note = run.shown < run.total ? `${about}; of the images that are shown` : about;
  const images = places.map((place) => ({ place, caption: caption(place) }));
  byId("listed").replaceChildren(list(run, { id: "list-images", title, note, images }, choose));
  return places;
}

/** The pairs of classes with most edges between them; a click shows the edges of one. */
function drawConfused(run, stage, choose) {
  const edges = make("div", { id: "confused-edges" });
  const buttons = stage.confused.slice(0, MOST_PAIRS).map(([one, other, share]) => {
    const words = `${labelName(run, one)} to ${labelName(run, other)}: ${(100 * share).toFixed(1)} %`;
    const button = make("button", { type: "button" }, words);
    button.addEventListener("click", () => {
      const images = edgesBetween(run, stage, one, other).flatMap(({ place, to, similarity }) => [
        { place, caption: `${similarity.toFixed(3)} to` },
        { place: to, caption: `${run.numbers[to]}` },
      ]);
      const note = "Pairs of an image and its neighbour, the most similar first";
      edges.replaceChildren(list(run, { id: "list-images", title: words, note, images }, choose));
    });
    return button;
  });
  const note = make(
    "p",
    { class: "note" },
    "The share of a class's edges that end in the other class, of the whole graph.",
  );
  byId("listed").replaceChildren(
    make("h3", {}, "Confused classes"),
    note,
    make("div", { class: "row" }, ...buttons),
    edges,
  );
}

/** Shows a shortest path between two images and returns its places. */
export function drawPath(run, stage, start, end, choose) {
  const path = shortestPath(stage, start, end);
  const [from, to] = [start, end].map((place) => run.numbers[place]);
  const found = `A shortest path from image ${from} to image ${to}: ${path.length - 1} steps`;
  const title = path.length ? found : `No path leads from image ${from} to image ${to}`;
  const note = run.shown < run.total ? "Of the images that are shown: the whole graph may have a shorter one" : "";
  const images = path.map((place, step) => ({ place, caption: `step ${step}` }));
  byId("listed").replaceChildren(list(run, { id: "path-images", title, note, images }, choose));
  return path;
}

function mean(values, places) {
  const known = places.filter((place) => !Number.isNaN(values[place]));
  return known.length ? known.reduce((sum, place) => sum + values[place], 0) / known.length : Number.NaN;
}

/** The selection: its classes, its measures beside those of all, its numbers to copy, and its images. */
export function drawSelection(run, stage, places, choose, clear) {
  const words = places.length === 1 ? "1 image is selected" : `${places.length.toLocaleString()} images are selected`;
  byId("selection-title").textContent = places.length ? words : "No image is selected";
  if (!places.length) {
    const hint = "Press Lasso and draw around images on the map, or select what is in view, or a list.";
    byId("selection").replaceChildren(make("p", { class: "note" }, hint));
    return;
  }
  const all = Array.from(run.labels.keys());
  const text = (value) => (Number.isNaN(value) ? "" : value.toFixed(2));
  const rows = Object.entries(MEASURES)
    .filter(([name]) => stage.each[name])
    .map(([name, { name: title }]) => [title, text(mean(stage.each[name], places)), text(mean(stage.each[name], all))]);
  const numbers = places.map((place) => run.numbers[place]).join(" ");
  const field = make("textarea", {
    id: "numbers",
    rows: "2",
    readonly: "",
    "aria-label": "Numbers of the selected images",
  });
  field.value = numbers;
  const copy = make("button", { type: "button", id: "copy" }, "Copy the numbers");
  copy.addEventListener("click", () => copyText(field, copy));
  const empty = make("button", { type: "button", id: "clear" }, "Clear");
  empty.addEventListener("click", clear);
  byId("selection").replaceChildren(
    make("p", {}, tally(run, places)),
    table("Means of the selection and of all images", [
      ["measure", "selection", `all ${run.shown.toLocaleString()}`],
      ...rows,
    ]),
    make("div", { class: "tools" }, copy, empty),
    field,
    ...grid(run, places, choose),
  );
}

/** Copies a field's text; where the page may not, it is marked, for the keyboard. */
async function copyText(field, button) {
  field.select();
  try {
    await navigator.clipboard.writeText(field.value);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Marked: copy with Ctrl+C";
  }
}
