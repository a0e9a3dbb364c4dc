// The elements that the explorer makes. Class names come from users' folders and may hold anything: they become text and
// attributes, and never HTML.
import { className } from "./explorer_data.js";

const MOST_TILES = 60; // of a list
const MOST_IN_GRID = 400; // of a selection

export function byId(id) {
  return document.getElementById(id);
}

/** A new element; `children` are elements and texts. */
export function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The pictures of the images shown: place -> address. They lie at the end of the page, so that all else is drawn before them. */
let lines = null;
export function pictureAddress(place) {
  lines ??= byId("pictures").textContent.split("\n");
  return `data:image/webp;base64,${lines[place]}`;
}

/** The picture of an image, loaded, or null until it is; `whenLoaded` is called then. */
const loaded = new Map();
export function picture(place, whenLoaded) {
  if (!loaded.has(place)) {
    const image = new Image();
    image.addEventListener("load", whenLoaded, { once: true });
    image.src = pictureAddress(place);
    loaded.set(place, image);
  }
  const image = loaded.get(place);
  return image.complete && image.naturalWidth ? image : null;
}

export function thumbnail(run, place, size = "") {
  const alt = `image ${run.numbers[place]}, class ${className(run, place)}`;
  return make("img", { class: `thumb ${size}`, src: pictureAddress(place), alt });
}

/**
 * A button with an image, which is chosen by a click. `caption` stands below; `like` is "same" or "other" beside an
 * anchor, and its mark is no colour alone: another class has a broken frame.
 */
export function tile(run, { place, caption, like = "" }, choose) {
  const button = make(
    "button",
    { type: "button", class: `tile ${like}`, "data-number": run.numbers[place] },
    thumbnail(run, place),
    className(run, place),
    make("small", {}, caption),
  );
  button.disabled = !run.opened[place];
  if (button.disabled) button.title = "Shown as a neighbour only: not all of its own neighbours are in the sample";
  button.addEventListener("click", () => choose(place));
  return button;
}

/** A list of tiles under a heading; of a long one the first. */
export function list(run, { id, title, note = "", images }, choose) {
  const section = make("section", {}, make("h3", {}, title));
  const left = images.length - MOST_TILES;
  const notes = [note, left > 0 ? `the first ${MOST_TILES} of ${images.length}` : ""].filter(Boolean);
  if (notes.length) section.append(make("p", { class: "note" }, notes.join("; ")));
  section.append(
    make("div", { class: "row", id }, ...images.slice(0, MOST_TILES).map((each) => tile(run, each, choose))),
  );
  return section;
}

/** The images of a selection, small, without words. */
export function grid(run, places, choose) {
  const buttons = places.slice(0, MOST_IN_GRID).map((place) => {
    const button = make("button", { type: "button", class: "small-tile" }, thumbnail(run, place, "small"));
    button.addEventListener("click", () => choose(place));
    return button;
  });
  const left = places.length - buttons.length;
  const row = make("div", { class: "grid" }, ...buttons);
  return left > 0 ? [row, make("p", { class: "note" }, `and ${left.toLocaleString()} more`)] : [row];
}

/** A table of rows of texts: the first row and the first column are headers. */
export function table(caption, [header, ...rows], now = -1) {
  const cell = (text, at, tag, scope) => make(tag, { ...(scope && { scope }), class: at === now ? "now" : "" }, text);
  const line = (texts, top) =>
    make(
      "tr",
      {},
      ...texts.map((text, at) => (top || at === 0 ? cell(text, at, "th", top ? "col" : "row") : cell(text, at, "td"))),
    );
  return make(
    "table",
    {},
    make("caption", {}, caption),
    make("thead", {}, line(header, true)),
    make("tbody", {}, ...rows.map((texts) => line(texts, false))),
  );
}

/** "7 x cat, 3 x dog": the most frequent class first. */
export function tally(run, places) {
  const counts = new Map();
  for (const place of places) counts.set(className(run, place), (counts.get(className(run, place)) ?? 0) + 1);
  return [...counts]
    .sort((one, other) => other[1] - one[1])
    .map(([name, count]) => `${count} x ${name}`)
    .join(", ");
}
