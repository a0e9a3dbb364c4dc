// Colours of classes and measures, and where the classes' names stand on the map.
import { MEASURES } from "./explorer_data.js";

// Ten colours chosen for the colour-blind (Petroff, arXiv:2107.02270); names stand on the map beside them.
const CLASSES = "#3f90da #ffa90e #bd1f01 #94a4a2 #832db6 #a96b59 #e76300 #b9ac70 #717581 #92dadd".split(" ");
const SCALE = "#482878 #3e4989 #31688e #26828e #1f9e89 #35b779 #6ece58 #b5de2b #f0d91d".split(" "); // viridis, less its ends
const UNKNOWN = "#8a9296";
const MOST_NAMED = 20; // classes whose names stand on the map
const CELLS = 14; // of a side of the map, to find where most of a class lie

export function classColour(label) {
  if (label < 0) return UNKNOWN;
  // Steps of the golden angle keep the hues of many classes apart.
  return CLASSES[label] ?? `hsl(${Math.round(label * 137.5) % 360} 55% 48%)`;
}

/** By class: a palette, and the index in it of each image. */
export function byClass(run) {
  const palette = [UNKNOWN, ...run.classes.map((_, label) => classColour(label))];
  return { palette, index: Uint16Array.from(run.labels, (label) => label + 1), legend: null };
}

/** By a measure of the stage: the palette and indices, and what the ends of the scale are. */
export function byMeasure(stage, name) {
  const values = stage.each[name];
  const known = Float64Array.from(values.filter((value) => !Number.isNaN(value))).sort();
  const [least, most] = [known[0] ?? 0, known[Math.floor(0.99 * (known.length - 1))] ?? 0]; // few hubs would take the scale
  const step = (value) => Math.floor(((value - least) / (most - least || 1)) * SCALE.length);
  const index = Uint16Array.from(values, (value) =>
    Number.isNaN(value) ? 0 : 1 + Math.max(0, Math.min(SCALE.length - 1, step(value))),
  );
  const text = (value) => (Number.isInteger(value) ? value.toLocaleString() : value.toFixed(2));
  const ends = [text(least), (known.at(-1) > most ? "at least " : "") + text(most)];
  return { palette: [UNKNOWN, ...SCALE], index, legend: { ends, colours: SCALE, unit: MEASURES[name].unit } };
}

/** The names of the classes, each at an image in the middle of where most of the class lie: [{text, place}]. */
export function classNames(run, positions) {
  if (run.classes.length > MOST_NAMED) return [];
  const cells = run.classes.map(() => new Map()); // of each class: cell -> places
  for (let place = 0; place < run.shown; place++) {
    if (run.labels[place] < 0) continue;
    const [column, row] = [positions[2 * place], positions[2 * place + 1]].map((at) =>
      Math.floor(((at + 1) / 2) * CELLS),
    );
    const cell = row * (CELLS + 1) + column;
    const own = cells[run.labels[place]];
    if (!own.has(cell)) own.set(cell, []);
    own.get(cell).push(place);
  }
  return run.classes.flatMap((text, label) => {
    const [fullest] = [...cells[label].values()].sort((one, other) => other.length - one.length);
    if (!fullest) return [];
    const middle = [0, 1].map(
      (axis) => fullest.reduce((sum, place) => sum + positions[2 * place + axis], 0) / fullest.length,
    );
    const away = (place) => Math.hypot(positions[2 * place] - middle[0], positions[2 * place + 1] - middle[1]);
    return [{ text, place: fullest.reduce((best, place) => (away(place) < away(best) ? place : best)) }];
  });
}
