// What the explorer does: it shows an image with its neighbours and its walk, at every stage of the training, and a map
// of all images to move in and to choose from.
//
// The step `explorer` writes the files explorer*.js into explorer.html as one script: they are modules for whoever reads
// and checks them, and the page needs no other file.
import { byClass, byMeasure, classColour, classNames } from "./explorer_colours.js";
import { className, hasWalk, labelName, MEASURES, neighboursOf, readRun, walkEdges } from "./explorer_data.js";
import { byId, make, picture, table, thumbnail } from "./explorer_elements.js";
import { drawImage } from "./explorer_image.js";
import { drawChoices, drawList, drawPath, drawSelection } from "./explorer_lists.js";
import { GraphMap } from "./explorer_map.js";
import { drawBoth, drawSecondStages, readSecond } from "./explorer_second.js";

const MOST_IN_LEGEND = 40; // classes
const BETWEEN_STAGES = 1400; // milliseconds, while they play
const PANELS = ["image", "selection", "lists", "second"];

const run = readRun(byId("data").textContent);

// What the user looks at.
let stageIndex = run.stages.length - 1;
let onlyClass = -1; // the class that the map shows alone, or -1
let colour = "class";
let selected = []; // places
let path = []; // places
let listed = []; // places of the list that is shown
let second = null; // the second run
let playing = 0;
// Walks may have been kept of a few images only: the page opens at the first of them.
const firstWithWalk = run.labels.findIndex((_, place) => hasWalk(stage(), place));
let anchor = firstWithWalk < 0 ? run.opened.indexOf(1) : firstWithWalk;
const earlierAnchors = [];

function stage() {
  return run.stages[stageIndex];
}

function secondStage() {
  return second.stages[Number(byId("second-stage").value)];
}

/** The places that can be opened and that the legend's choice of a class leaves. */
function placesOfChosenClass() {
  const left = (place) => onlyClass < 0 || run.labels[place] === onlyClass;
  return Array.from(run.labels.keys()).filter((place) => run.opened[place] && left(place));
}

/** The next place that can be opened, `step` (1 or -1) after the anchor and on. */
function nextPlace(step) {
  let place = anchor;
  do place = (place + step + run.shown) % run.shown;
  while (!run.opened[place]);
  return place;
}

// ---- The maps

const map = new GraphMap(byId("frame"), {
  choose,
  hover: showTip,
  select,
  picture: (place) => picture(place, () => map.draw()),
});
const secondMap = new GraphMap(byId("second-frame"), {
  choose,
  hover: () => {},
  select,
  picture: (place) => picture(place, () => secondMap.draw()),
});

/** 1 for each image that is faint: neither of the class that is alone nor selected, or not to be opened; null if none is. */
function faintImages() {
  const chosen = new Set(selected);
  const faint = Uint8Array.from(run.labels, (label, place) => {
    if (chosen.size) return chosen.has(place) ? 0 : 1;
    return !run.opened[place] || (onlyClass >= 0 && label !== onlyClass) ? 1 : 0;
  });
  return faint.includes(1) ? faint : null;
}

function edgesOf(graph) {
  const near = neighboursOf(graph, anchor).map(({ place }) => ({ from: anchor, to: place, step: 1 }));
  const walk = () => walkEdges(run, graph, anchor).map(([from, to, step]) => ({ from, to, step }));
  return [...(byId("edges").checked ? near : []), ...(byId("walks").checked ? walk() : [])];
}

function colourMap() {
  const { legend, ...colours } = colour === "class" ? byClass(run) : byMeasure(stage(), colour);
  const faint = faintImages();
  map.colouring = { ...colours, faint };
  if (second) {
    const other = colour === "class" || !secondStage().each[colour] ? byClass(run) : byMeasure(secondStage(), colour);
    secondMap.colouring = { palette: other.palette, index: other.index, faint };
  }
  drawLegend(legend);
}

const namesOf = new Map(); // positions -> where the classes' names stand among them
function names(positions) {
  if (colour !== "class") return [];
  if (!namesOf.has(positions)) namesOf.set(positions, classNames(run, positions));
  return namesOf.get(positions);
}

function drawMarks() {
  map.marks = { anchor, edges: edgesOf(stage()), path, names: names(stage().positions) };
  map.drawLines();
  const images = `${run.shown} images by t-SNE of their neighbour graph after epoch ${stage().epoch}`;
  const lines = "lines lead to its neighbours";
  map.lines.setAttribute("aria-label", `Map of ${images}; image ${run.numbers[anchor]} is marked, ${lines}`);
  if (!second) return;
  secondMap.marks = { anchor, edges: edgesOf(secondStage()), path: [], names: names(secondStage().positions) };
  secondMap.drawLines();
  secondMap.lines.setAttribute("aria-label", `Map of the same images by ${second.experiment}, seed ${second.seed}`);
}

function drawMaps() {
  colourMap();
  map.moveTo(stage().positions);
  if (second) secondMap.moveTo(secondStage().positions);
  drawMarks();
}

function showTip(place, x = 0, y = 0) {
  const tip = byId("tip");
  tip.hidden = place < 0;
  if (place < 0) return;
  const value =
    colour === "class" ? [] : [make("br", {}), `${MEASURES[colour].name}: ${measureText(stage().each[colour][place])}`];
  const words = make("span", {}, `image ${run.numbers[place]}: ${className(run, place)}`, ...value);
  tip.replaceChildren(thumbnail(run, place, "large"), words);
  const left = Math.min(x + 16, byId("frame").clientWidth - tip.offsetWidth - 4);
  tip.style.transform = `translate(${Math.max(0, left)}px, ${y > tip.offsetHeight + 24 ? y - tip.offsetHeight - 12 : y + 16}px)`;
}

function drawLegend(scale) {
  if (scale) {
    const bar = make("span", { class: "scale" });
    bar.style.background = `linear-gradient(to right, ${scale.colours.join(", ")})`;
    byId("legend").replaceChildren(
      make("span", {}, scale.ends[0]),
      bar,
      make("span", {}, `${scale.ends[1]} ${scale.unit}`),
    );
    return;
  }
  const buttons = run.classes.slice(0, MOST_IN_LEGEND).map((name, label) => {
    const dot = make("span", { class: "dot" });
    dot.style.background = classColour(label);
    const button = make("button", { type: "button", "aria-pressed": label === onlyClass }, dot, name);
    button.addEventListener("click", () => toggleClass(label));
    return button;
  });
  byId("legend").replaceChildren(...buttons);
}

function drawAbout() {
  const total = run.total.toLocaleString();
  const anchors = run.opened.reduce((sum, each) => sum + each, 0).toLocaleString();
  const sample =
    `Of ${total} images, ${run.shown.toLocaleString()} are shown: seeded anchors with all their neighbours and ` +
    `positives of every stage. The ${anchors} of which no neighbour is missing can be opened; the others are faint.`;
  const rows = run.total > run.shown ? sample : `All ${total} images.`;
  const meaning =
    "Placed by t-SNE of the neighbour graph: it keeps who is near whom. Distances between islands, their sizes and their places mean nothing.";
  byId("about").textContent =
    `${rows} ${meaning} A click chooses the nearest image, a drag moves the map, the wheel enlarges it.`;
  const walked = run.walked
    ? `; positives are of the ${run.walked.toLocaleString()} anchors whose walks were kept`
    : "";
  byId("measures-of").textContent = `Of the whole graph, n = ${total} images${walked}.`;
}

function measureText(value) {
  if (value === undefined) return "";
  return Number.isInteger(value) ? value.toLocaleString() : value.toFixed(3);
}

function drawMeasures() {
  const names = [...new Set(run.stages.flatMap((each) => Object.keys(each.measures)))];
  const header = ["epoch", ...run.stages.map(({ epoch }) => String(epoch))];
  const rows = names.map((name) => [
    name.replaceAll("_", " "),
    ...run.stages.map(({ measures }) => measureText(measures[name])),
  ]);
  byId("measures").replaceChildren(table("Measures of the graph over the stages", [header, ...rows], stageIndex + 1));
}

// ---- What the user can do

function draw() {
  byId("stage").value = stageIndex;
  byId("stage-name").textContent = stage().epoch;
  drawMarks();
  drawImage(run, stage(), anchor, choose);
  if (second) drawBoth(run, stage(), second, secondStage(), anchor, choose);
  try {
    history.replaceState(null, "", `#stage=${stage().epoch}&image=${run.numbers[anchor]}`);
  } catch {
    // A page that is shown in a sandbox may not change its address, and needs not.
  }
}

/** What depends on the stage, and not on the image. */
function drawStage() {
  fillColours();
  drawMaps();
  drawMeasures();
  drawChoices(run, stage());
  if (!byId("panel-lists").hidden) showList();
  drawSelection(run, stage(), selected, choose, () => select([]));
}

function choose(place) {
  if (!run.opened[place]) return;
  earlierAnchors.push(anchor);
  anchor = place;
  if (byId("panel-second").hidden) showPanel("image", false);
  draw();
}

function goBack() {
  if (!earlierAnchors.length) return;
  anchor = earlierAnchors.pop();
  draw();
}

function showStage(index) {
  stageIndex = Math.max(0, Math.min(run.stages.length - 1, index));
  path = [];
  drawStage();
  draw();
}

/** Shows stage after stage; a second press stops. */
function play() {
  clearTimeout(playing);
  byId("play").textContent = playing ? "Play" : "Stop";
  if (playing) {
    playing = 0;
    return;
  }
  const next = (index) => {
    showStage(index);
    if (index + 1 < run.stages.length) playing = setTimeout(next, BETWEEN_STAGES, index + 1);
    else {
      playing = 0;
      byId("play").textContent = "Play";
    }
  };
  next(0);
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
  byId("random").textContent = `${onlyClass < 0 ? "all" : labelName(run, onlyClass)} (r)`;
  map.colouring.faint = secondMap.colouring.faint = faintImages();
  map.draw();
  secondMap.draw();
}

function select(places) {
  selected = places;
  drawSelection(run, stage(), selected, choose, () => select([]));
  showPanel("selection", false);
  map.colouring.faint = secondMap.colouring.faint = faintImages();
  map.draw();
  secondMap.draw();
}

function toggleLasso() {
  map.lasso = secondMap.lasso = !map.lasso;
  byId("lasso").setAttribute("aria-pressed", map.lasso);
  byId("frame").classList.toggle("selecting", map.lasso);
}

function showPanel(name, focus = true) {
  for (const each of PANELS) {
    const tab = byId(`tab-${each}`);
    byId(`panel-${each}`).hidden = each !== name;
    tab.setAttribute("aria-selected", each === name);
    tab.tabIndex = each === name ? 0 : -1;
    if (each === name && focus) tab.focus();
  }
  if (name === "lists" && !byId("listed").childElementCount) showList();
}

function showList() {
  listed = drawList(run, stage(), choose);
  byId("select-list").disabled = !listed.length;
}

function findPath(event) {
  event.preventDefault();
  const end = run.placeOf.get(Number(byId("path-end").value.trim() || Number.NaN));
  byId("path-end").setCustomValidity(end === undefined ? "No image of this number is shown" : "");
  if (!byId("path-end").reportValidity()) return;
  path = drawPath(run, stage(), anchor, end, choose);
  drawMarks();
}

async function chooseSecond(event) {
  const [file] = event.target.files;
  if (!file) return;
  try {
    second = await readSecond(run, file);
    byId("second-note").textContent =
      `${second.title} (${second.experiment}, seed ${second.seed}) is shown below the map.`;
    byId("second").hidden = false;
    drawSecondStages(second);
    drawMaps();
    draw();
  } catch (error) {
    byId("second-note").textContent = error.message;
  }
}

function fillColours() {
  const names = Object.keys(MEASURES).filter((name) => stage().each[name]);
  if (!names.includes(colour)) colour = "class";
  const options = [["class", "class"], ...names.map((name) => [name, MEASURES[name].name])];
  byId("colour").replaceChildren(...options.map(([value, name]) => make("option", { value }, name)));
  byId("colour").value = colour;
}

/** What the search suggests; a class that is named by a number is asked for as "class 7", since "7" is an image. */
function fillSuggestions() {
  const values = run.classes.map((name) => (/^\d+$/.test(name) ? `class ${name}` : name));
  byId("classes").replaceChildren(...values.map((value) => make("option", { value })));
}

/** The place of the image of this number, or of the first one of this class; undefined if none can be opened. */
function searched(text) {
  const place = run.placeOf.get(Number(text));
  if (/^\d+$/.test(text) && run.opened[place]) return place;
  const wanted = text.replace(/^class\s+/i, "").toLowerCase();
  const label = run.classes.findIndex((name) => name.toLowerCase() === wanted);
  const first = label < 0 ? -1 : run.labels.findIndex((each, at) => each === label && run.opened[at]);
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

const ARROWS = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
const KEYS = {
  "[": () => showStage(stageIndex - 1),
  "]": () => showStage(stageIndex + 1),
  ArrowLeft: () => choose(nextPlace(-1)),
  ArrowRight: () => choose(nextPlace(1)),
  Backspace: goBack,
  r: chooseRandom,
  l: toggleLasso,
  v: () => select(map.visible()),
  "+": () => map.zoom(1.5),
  "-": () => map.zoom(1 / 1.5),
  0: () => map.fit(),
  Escape: () => selected.length && select([]),
  "/": (event) => {
    event.preventDefault(); // or the slash would be typed into the search
    byId("query").focus();
  },
};

function pressKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("textarea, select, [type=file]")) return;
  if (event.target.matches("input:not([type])")) return; // typing
  if (event.target.matches("[role=tab]") && event.key.startsWith("Arrow")) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key] ?? 0;
    const at = PANELS.indexOf(event.target.id.slice(4));
    showPanel(PANELS[(at + step + PANELS.length) % PANELS.length]);
  } else if (event.shiftKey && ARROWS[event.key]) {
    event.preventDefault();
    map.pan(...ARROWS[event.key]);
  } else if (!(event.target === byId("stage") && event.key.startsWith("Arrow"))) KEYS[event.key]?.(event);
}

/** Goes to the stage and the image that the address names, as #stage=90&image=12. */
function followAddress() {
  const address = new URLSearchParams(location.hash.slice(1));
  const index = run.stages.findIndex(({ epoch }) => String(epoch) === address.get("stage"));
  if (index >= 0) stageIndex = index;
  const place = run.placeOf.get(Number(address.get("image") ?? Number.NaN));
  if (run.opened[place]) anchor = place;
}

function listen() {
  const clicks = {
    play,
    random: chooseRandom,
    lasso: toggleLasso,
    fit: () => map.fit(),
    "zoom-in": () => map.zoom(1.5),
    "zoom-out": () => map.zoom(1 / 1.5),
    "select-view": () => select(map.visible()),
    "select-list": () => select(listed),
  };
  for (const [name, act] of Object.entries(clicks)) byId(name).addEventListener("click", act);
  for (const name of PANELS) byId(`tab-${name}`).addEventListener("click", () => showPanel(name));
  for (const name of ["edges", "walks"]) byId(name).addEventListener("change", drawMarks);
  byId("stage").max = run.stages.length - 1;
  byId("stage").addEventListener("input", (event) => showStage(Number(event.target.value)));
  byId("colour").addEventListener("change", (event) => {
    colour = event.target.value;
    drawMaps();
  });
  byId("search").addEventListener("submit", search);
  byId("query").addEventListener("input", () => byId("query").setCustomValidity(""));
  byId("list").addEventListener("change", showList);
  byId("path").addEventListener("submit", findPath);
  byId("path-end").addEventListener("input", () => byId("path-end").setCustomValidity(""));
  byId("second-file").addEventListener("change", chooseSecond);
  byId("second-stage").addEventListener("change", () => {
    drawMaps();
    draw();
  });
  document.addEventListener("keydown", pressKey);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMaps);
}

followAddress();
fillColours();
drawAbout();
drawMaps();
performance.mark("map drawn");
// The pictures lie below this script: what shows them waits until they are there.
document.addEventListener("DOMContentLoaded", () => {
  fillSuggestions();
  showPanel("image", false);
  drawStage();
  draw();
  listen();
  performance.mark("page drawn");
});
