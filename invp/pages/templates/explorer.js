// What the explorer does: it shows an image with its neighbours and its walk, at every stage of the training.
//
// The step `explorer` writes this file into explorer.html, beside the data. An image has a number in the data set,
// which people see, and a place among the images shown (0, 1, ...), by which everything here speaks of it; -1 stands for
// one that is not shown. Class names come from users' folders and may hold anything: they become text and attributes,
// and never HTML.

const COLOURS = "#0b6e6e #c8553d #6a4c93 #e0a030 #3d6fb4 #7a8b3c #d1495b #5f6b73 #2a9d8f #8c4a2f".split(" ");
const INK = "#1d2b2f";
const MOST_IN_LEGEND = 40; // classes
const MOST_IN_WALK = 60; // images that a step of the walk shows
const MOST_CHOSEN = 8; // positives that the loss takes, and as many that it leaves
const KEPT_AS = "* marks what the loss takes, by the objective's rule on the graph at the end of this stage";

// ---- The data

const data = JSON.parse(byId("data").textContent);
const numbers = unpacked(data.numbers, Int32Array); // place -> number
const labels = unpacked(data.labels, Int32Array); // place -> index of its class, or -1
const opened = unpacked(data.opened, Uint8Array); // place -> 1 if all its neighbours and positives are shown
const placeOf = new Map(Array.from(numbers, (number, place) => [number, place]));
const stages = data.stages.map((stage) => ({
  ...stage,
  neighbours: unpacked(stage.neighbours, Int32Array), // k of each image, the nearest first
  similarities: unpacked(stage.similarities, Float32Array),
  positions: unpacked(stage.positions, Float32Array), // x and y of each image, within -1 and 1
  walks: {
    offsets: unpacked(stage.walks.offsets, Int32Array), // where the positives of each image begin below
    positives: unpacked(stage.walks.positives, Int32Array),
    distances: unpacked(stage.walks.distances, Int8Array), // the step of the walk that reached them
    similarities: unpacked(stage.walks.similarities, Float32Array),
    chosen: unpacked(stage.walks.chosen, Uint8Array), // 1 where the loss takes it
  },
}));

// What the user looks at.
let stageIndex = stages.length - 1;
let onlyClass = -1; // the class that the map shows alone, or -1
// Walks may have been kept of a few images only: the page opens at the first of them.
const firstWithWalk = labels.findIndex((_, place) => hasWalk(place));
let anchor = firstWithWalk < 0 ? opened.indexOf(1) : firstWithWalk;
const earlierAnchors = [];

function byId(id) {
  return document.getElementById(id);
}

/** The numbers in a text of base64. */
function unpacked(text, ArrayType) {
  return new ArrayType(Uint8Array.from(atob(text), (character) => character.charCodeAt(0)).buffer);
}

function className(label) {
  return label < 0 ? "no label" : data.classes[label];
}

function colour(label) {
  if (label < 0) return "#889";
  // Steps of the golden angle keep the hues of many classes apart.
  return COLOURS[label] ?? `hsl(${(label * 137.5) % 360} 55% 45%)`;
}

function hasWalk(place) {
  const { offsets } = stages[stageIndex].walks;
  return offsets[place + 1] > offsets[place];
}

/** The anchor's neighbours, the nearest first, as {place, similarity}. */
function neighboursOfAnchor() {
  const { k, neighbours, similarities } = stages[stageIndex];
  const found = [];
  for (let entry = anchor * k; entry < (anchor + 1) * k; entry++) {
    // An approximate search may have found fewer than k.
    if (neighbours[entry] >= 0) found.push({ place: neighbours[entry], similarity: similarities[entry] });
  }
  return found;
}

/** What the walk from the anchor found, the most similar first, as {place, similarity, distance, chosen}. */
function walkOfAnchor() {
  const { offsets, positives, distances, similarities, chosen } = stages[stageIndex].walks;
  const found = [];
  for (let entry = offsets[anchor]; entry < offsets[anchor + 1]; entry++) {
    found.push({
      place: positives[entry],
      similarity: similarities[entry],
      distance: distances[entry],
      chosen: chosen[entry] === 1,
    });
  }
  return found.sort((one, other) => other.similarity - one.similarity);
}

/** The places that can be opened and that the legend's choice of a class leaves. */
function placesOfChosenClass() {
  const left = (place) => onlyClass < 0 || labels[place] === onlyClass;
  return Array.from(labels.keys()).filter((place) => opened[place] && left(place));
}

/** The next place that can be opened, `step` (1 or -1) after the anchor and on. */
function nextPlace(step) {
  let place = anchor;
  do place = (place + step + data.shown) % data.shown;
  while (!opened[place]);
  return place;
}

// ---- The anchor and its lists

/** A new element; `children` are elements and texts. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function thumbnail(place, size = "") {
  const [row, column] = [Math.floor(place / data.columns), place % data.columns];
  return make("span", {
    class: `thumb ${size}`,
    style: `--row: ${row}; --column: ${column}`,
    role: "img",
    "aria-label": `image ${numbers[place]}, class ${className(labels[place])}`,
  });
}

/** A button with an image, which becomes the anchor by a click; a positive that the loss takes has a star. */
function tile({ place, similarity, chosen }) {
  const likeAnchor = labels[place] === labels[anchor] ? "same" : "other";
  const button = make(
    "button",
    { type: "button", class: `tile ${labels[place] < 0 ? "" : likeAnchor}`, "data-number": numbers[place] },
    thumbnail(place),
    className(labels[place]),
    make("small", {}, similarity.toFixed(3) + (chosen ? "*" : "")),
  );
  button.disabled = !opened[place];
  if (button.disabled) button.title = "Shown as a neighbour only: not all of its own neighbours are in the sample";
  button.addEventListener("click", () => choose(place));
  return button;
}

function list(id, title, note, images) {
  const section = make("section", {}, make("h3", {}, title));
  if (note) section.append(make("p", { class: "note" }, note));
  section.append(make("div", { class: "row", id }, ...images.map(tile)));
  return section;
}

/** How many of the images with a label have the anchor's, in words; nothing without labels. */
function shareOfClass(images) {
  const labelled = images.filter(({ place }) => labels[place] >= 0);
  if (!labelled.length) return "";
  const same = labelled.filter(({ place }) => labels[place] === labels[anchor]);
  return `${same.length} of ${labelled.length} of the anchor's class`;
}

function neighbourList(neighbours) {
  return list("neighbours", `${neighbours.length} nearest neighbours`, shareOfClass(neighbours), neighbours);
}

/** A list for each step of the walk, and the positives that the loss takes and leaves. */
function walkLists(walk) {
  const lists = [];
  for (let step = 1; step <= data.steps; step++) {
    const reached = walk.filter(({ distance }) => distance === step);
    if (reached.length) {
      const title = `Walk, step ${step}: ${reached.length} images`;
      lists.push(list(`step-${step}`, title, shareOfClass(reached), reached.slice(0, MOST_IN_WALK)));
    }
  }
  const chosen = walk.filter((positive) => positive.chosen);
  const left = walk.filter((positive) => !positive.chosen);
  if (data.leastSimilarFirst) chosen.reverse();
  const title = `${data.kinds.chosen}: the loss takes ${chosen.length} of ${walk.length}, ${data.kinds.rule}`;
  const notes = [shareOfClass(chosen), KEPT_AS];
  lists.push(list("chosen", title, notes.filter(Boolean).join("; "), chosen.slice(0, MOST_CHOSEN)));
  const rest = left.length ? `the loss leaves ${left.length}` : "none, the loss takes all";
  lists.push(list("left", `${data.kinds.left}: ${rest}`, shareOfClass(left), left.slice(0, MOST_CHOSEN)));
  return lists;
}

/** What stands in place of a walk that was not kept: why, and a way to the next image with one. */
function missingWalk() {
  const note = "This image is not among the anchors whose positives were kept (graph.anchors).";
  const parts = [list("step-1", "Walk", note, [])];
  for (let ahead = 1; ahead <= data.shown; ahead++) {
    const place = (anchor + ahead) % data.shown;
    if (hasWalk(place)) {
      const button = make("button", { type: "button", id: "next-walk" }, "The next image with a walk");
      button.addEventListener("click", () => choose(place));
      return [...parts, button];
    }
  }
  return parts;
}

/** "7 x cat, 3 x dog": the most frequent class first. */
function tally(images) {
  const counts = Object.create(null); // a plain {} has entries of its own, and a class may be named as one of them
  for (const { place } of images) {
    const name = className(labels[place]);
    counts[name] = (counts[name] ?? 0) + 1;
  }
  const sorted = Object.entries(counts).sort((one, other) => other[1] - one[1]);
  return sorted.map(([name, count]) => `${count} x ${name}`).join(", ");
}

function drawAnchor() {
  const neighbours = neighboursOfAnchor();
  const walk = walkOfAnchor();
  byId("anchor").replaceChildren(thumbnail(anchor, "large"));
  byId("anchor-name").textContent = `Image ${numbers[anchor]}: ${className(labels[anchor])}`;
  byId("anchor-note").textContent = `Neighbours: ${tally(neighbours)}`;
  const lists = [neighbourList(neighbours)];
  if (walk.length) lists.push(...walkLists(walk));
  else if (data.steps) lists.push(...missingWalk());
  byId("lists").replaceChildren(...lists);
}

// ---- The map

const canvas = byId("map");
const pen = canvas.getContext("2d");

/** Where an image lies on the canvas, in its pixels from the top left. */
function pointOf(place) {
  const { positions } = stages[stageIndex];
  const spread = 550; // pixels from the middle to the farthest image; less in height, where there is less room
  return [
    canvas.width / 2 + positions[2 * place] * spread,
    canvas.height / 2 - positions[2 * place + 1] * spread * 0.85,
  ];
}

function drawDisc([x, y], radius, fill) {
  pen.fillStyle = fill;
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

function drawLine(from, to) {
  pen.beginPath();
  pen.moveTo(...from);
  pen.lineTo(...to);
  pen.stroke();
}

function drawMap() {
  pen.clearRect(0, 0, canvas.width, canvas.height);
  for (let place = 0; place < data.shown; place++) {
    const [x, y] = pointOf(place);
    const clear = opened[place] ? 0.75 : 0.2;
    pen.globalAlpha = onlyClass < 0 || labels[place] === onlyClass ? clear : 0.07;
    pen.fillStyle = colour(labels[place]);
    pen.fillRect(x - 3.5, y - 3.5, 7, 7);
  }
  pen.globalAlpha = 1;
  pen.strokeStyle = INK;
  pen.lineWidth = 1.5;
  for (const { place } of neighboursOfAnchor()) drawLine(pointOf(anchor), pointOf(place));
  drawDisc(pointOf(anchor), 11, INK);
  drawDisc(pointOf(anchor), 7, colour(labels[anchor]));
  const images = `${data.shown} images on their two principal axes after epoch ${stages[stageIndex].epoch}`;
  canvas.setAttribute(
    "aria-label",
    `Map of ${images}; image ${numbers[anchor]} is marked with lines to its neighbours`,
  );
}

function chooseNearest(event) {
  const box = canvas.getBoundingClientRect(); // the canvas is drawn larger than the page shows it
  const x = ((event.clientX - box.left) / box.width) * canvas.width;
  const y = ((event.clientY - box.top) / box.height) * canvas.height;
  let nearest = -1;
  let least = Number.POSITIVE_INFINITY;
  for (const place of placesOfChosenClass()) {
    const [u, v] = pointOf(place);
    const distance = (u - x) ** 2 + (v - y) ** 2;
    if (distance < least) {
      least = distance;
      nearest = place;
    }
  }
  if (nearest >= 0) choose(nearest);
}

function drawAbout() {
  const total = data.total.toLocaleString();
  const anchors = opened.reduce((sum, each) => sum + each, 0).toLocaleString();
  const sample =
    `rows; of ${total} images, ${data.shown.toLocaleString()} are shown: seeded anchors with all their neighbours and ` +
    `positives of every stage. The ${anchors} of which no neighbour is missing can be opened; the others are faint.`;
  const rows = data.total > data.shown ? sample : `rows of all ${total} images.`;
  byId("about").textContent = `Principal axes of the ${rows} Click selects the nearest image.`;
  const walked = data.walked
    ? `; positives are of the ${data.walked.toLocaleString()} anchors whose walks were kept`
    : "";
  byId("measures-of").textContent = `Of the whole graph, n = ${total} images${walked}.`;
}

// ---- The measures

function measureRow(tag, title, values) {
  const cells = values.map((value, index) => make(tag, { class: index === stageIndex ? "now" : "" }, value));
  return make("tr", {}, make(tag, {}, title), ...cells);
}

function measureText(value) {
  if (value === undefined) return "";
  return Number.isInteger(value) ? String(value) : value.toFixed(3);
}

function drawMeasures() {
  const names = new Set(stages.flatMap((stage) => Object.keys(stage.measures)));
  const rows = [
    measureRow(
      "th",
      "epoch",
      stages.map((stage) => String(stage.epoch)),
    ),
  ];
  for (const name of names) {
    const values = stages.map((stage) => measureText(stage.measures[name]));
    rows.push(measureRow("td", name.replaceAll("_", " "), values));
  }
  byId("measures").replaceChildren(...rows);
}

// ---- What the user can do

function draw() {
  byId("stage").value = stageIndex;
  byId("stage-name").textContent = stages[stageIndex].epoch;
  drawMap();
  drawAnchor();
  drawMeasures();
  try {
    history.replaceState(null, "", `#stage=${stages[stageIndex].epoch}&image=${numbers[anchor]}`);
  } catch {
    // A page that is shown in a sandbox may not change its address, and needs not.
  }
}

function choose(place) {
  earlierAnchors.push(anchor);
  anchor = place;
  draw();
}

function goBack() {
  if (!earlierAnchors.length) return;
  anchor = earlierAnchors.pop();
  draw();
}

function showStage(index) {
  stageIndex = Math.max(0, Math.min(stages.length - 1, index));
  draw();
}

function chooseRandom() {
  const places = placesOfChosenClass();
  if (places.length) choose(places[Math.floor(Math.random() * places.length)]);
}

/** Shows the map of one class alone, or of all if it was alone before. */
function toggleClass(label) {
  onlyClass = onlyClass === label ? -1 : label;
  for (const [index, button] of byId("legend").querySelectorAll("button").entries()) {
    button.setAttribute("aria-pressed", index === onlyClass);
  }
  byId("random").textContent = `${onlyClass < 0 ? "all" : className(onlyClass)} (r)`;
  drawMap();
}

function drawLegend() {
  const buttons = data.classes.slice(0, MOST_IN_LEGEND).map((name, label) => {
    const dot = make("span", { class: "dot" });
    dot.style.background = colour(label);
    const button = make("button", { type: "button", "aria-pressed": false }, dot, name);
    button.addEventListener("click", () => toggleClass(label));
    return button;
  });
  byId("legend").replaceChildren(...buttons);
}

/** What the search suggests; a class that is named by a number is asked for as "class 7", since "7" is an image. */
function fillSuggestions() {
  const values = data.classes.map((name) => (/^\d+$/.test(name) ? `class ${name}` : name));
  byId("classes").replaceChildren(...values.map((value) => make("option", { value })));
}

/** The place of the image of this number, or of the first one of this class; undefined if none can be opened. */
function searched(text) {
  if (/^\d+$/.test(text) && opened[placeOf.get(Number(text))]) return placeOf.get(Number(text));
  const wanted = text.replace(/^class\s+/i, "").toLowerCase();
  const label = data.classes.findIndex((name) => name.toLowerCase() === wanted);
  const first = label < 0 ? -1 : labels.findIndex((each, place) => each === label && opened[place]);
  return first < 0 ? undefined : first;
}

function search(event) {
  event.preventDefault(); // the form is sent nowhere
  const query = byId("query");
  const place = searched(query.value.trim());
  if (place !== undefined) choose(place);
  query.setCustomValidity(place === undefined ? "No image of this number or class can be opened" : "");
  query.reportValidity();
}

const KEYS = {
  "[": () => showStage(stageIndex - 1),
  "]": () => showStage(stageIndex + 1),
  ArrowLeft: () => choose(nextPlace(-1)),
  ArrowRight: () => choose(nextPlace(1)),
  Backspace: goBack,
  r: chooseRandom,
  "/": (event) => {
    event.preventDefault(); // or the slash would be typed into the search
    byId("query").focus();
  },
};

function pressKey(event) {
  const typing = event.target === byId("query");
  const sliding = event.target === byId("stage") && event.key.startsWith("Arrow");
  if (!typing && !sliding && !event.ctrlKey && !event.metaKey && !event.altKey) KEYS[event.key]?.(event);
}

/** Goes to the stage and the image that the address names, as #stage=90&image=12. */
function followAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  const index = stages.findIndex((stage) => String(stage.epoch) === address.get("stage"));
  if (index >= 0) stageIndex = index;
  const place = placeOf.get(Number(address.get("image") ?? Number.NaN));
  if (opened[place]) anchor = place;
}

byId("stage").max = stages.length - 1;
byId("stage").addEventListener("input", (event) => showStage(Number(event.target.value)));
byId("random").addEventListener("click", chooseRandom);
byId("search").addEventListener("submit", search);
byId("query").addEventListener("input", () => byId("query").setCustomValidity(""));
canvas.addEventListener("click", chooseNearest);
document.addEventListener("keydown", pressKey);
drawAbout();
drawLegend();
fillSuggestions();
followAddress();
draw();
