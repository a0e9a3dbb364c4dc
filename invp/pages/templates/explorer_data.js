// What the explorer knows: a run's images and graphs, and what can be asked of them.
//
// An image has a number in the data set, which people see, and a place among the images shown (0, 1, ...), by which
// everything here speaks of it; -1 stands for one that is not shown.

/** Of each image in the whole graph: what a colour or a list may show. */
export const MEASURES = {
  inDegree: { name: "in-degree", unit: "images have it among their neighbours" },
  sameClass: { name: "same-class share", unit: "of its neighbours have its class" },
  changed: { name: "changed since the last stage", unit: "of its neighbours are new" },
  outlier: { name: "outlier rank", unit: "by mean similarity to its neighbours, the least first" },
};

/** The numbers in a text of base64. */
function unpacked(text, ArrayType) {
  const characters = atob(text);
  const bytes = new Uint8Array(characters.length);
  for (let at = 0; at < bytes.length; at++) bytes[at] = characters.charCodeAt(at);
  return new ArrayType(bytes.buffer);
}

function readStage(stage) {
  const { walks, each } = stage;
  const floats = ["sameClass", "changed", "voteShare"];
  const entries = Object.entries(each).map(([name, text]) => [
    name,
    unpacked(text, floats.includes(name) ? Float32Array : Int32Array),
  ]);
  return {
    ...stage,
    neighbours: unpacked(stage.neighbours, Int32Array), // k of each image, the nearest first
    similarities: unpacked(stage.similarities, Float32Array),
    positions: unpacked(stage.positions, Float32Array), // x and y of each image, within -1 and 1
    walks: {
      offsets: unpacked(walks.offsets, Int32Array), // where the positives of each image begin below
      positives: unpacked(walks.positives, Int32Array),
      distances: unpacked(walks.distances, Int8Array), // the step of the walk that reached them
      similarities: unpacked(walks.similarities, Float32Array),
      chosen: unpacked(walks.chosen, Uint8Array), // 1 where the loss takes it
    },
    each: Object.fromEntries(entries),
  };
}

/** A run with all its stages, of the JSON that the page of its explorer holds. */
export function readRun(text) {
  const data = JSON.parse(text);
  const numbers = unpacked(data.numbers, Int32Array); // place -> number
  return {
    ...data,
    numbers,
    labels: unpacked(data.labels, Int32Array), // place -> index of its class, or -1
    opened: unpacked(data.opened, Uint8Array), // place -> 1 if all its neighbours and positives are shown
    placeOf: new Map(Array.from(numbers, (number, place) => [number, place])),
    stages: data.stages.map(readStage),
  };
}

export function className(run, place) {
  return labelName(run, run.labels[place]);
}

export function labelName(run, label) {
  return label < 0 ? "no label" : run.classes[label];
}

export function hasWalk(stage, place) {
  return stage.walks.offsets[place + 1] > stage.walks.offsets[place];
}

/** The neighbours of an image, the nearest first, as {place, similarity}. */
export function neighboursOf(stage, place) {
  const { k, neighbours, similarities } = stage;
  const found = [];
  for (let entry = place * k; entry < (place + 1) * k; entry++) {
    // An approximate search may have found fewer than k.
    if (neighbours[entry] >= 0) found.push({ place: neighbours[entry], similarity: similarities[entry] });
  }
  return found;
}

/** What the walk from an image found, the most similar first, as {place, similarity, distance, chosen}. */
export function walkOf(stage, place) {
  const { offsets, positives, distances, similarities, chosen } = stage.walks;
  const found = [];
  for (let entry = offsets[place]; entry < offsets[place + 1]; entry++) {
    found.push({
      place: positives[entry],
      similarity: similarities[entry],
      distance: distances[entry],
      chosen: chosen[entry] === 1,
    });
  }
  return found.sort((one, other) => other.similarity - one.similarity);
}

/** The edges that the walk from an image takes, as [from, to, step]. */
export function walkEdges(run, stage, place) {
  const distance = new Map([[place, 0]]);
  for (const positive of walkOf(stage, place)) distance.set(positive.place, positive.distance);
  const edges = [];
  for (const [from, step] of distance) {
    for (const { place: to } of neighboursOf(stage, from).slice(0, run.fanout)) {
      if (distance.get(to) === step + 1) edges.push([from, to, step + 1]);
    }
  }
  return edges;
}

/** The places along a shortest path of edges from one image to another; empty if none leads there. */
export function shortestPath(stage, start, end) {
  const before = new Map([[start, -1]]);
  let reached = [start];
  while (reached.length && !before.has(end)) {
    const next = [];
    for (const from of reached) {
      for (const { place } of neighboursOf(stage, from)) {
        if (!before.has(place)) {
          before.set(place, from);
          next.push(place);
        }
      }
    }
    reached = next;
  }
  const path = [];
  for (let place = before.has(end) ? end : -1; place >= 0; place = before.get(place)) path.unshift(place);
  return path;
}

function sortedBy(values, sign, wanted) {
  const places = Array.from(values.keys()).filter((place) => wanted(values[place]));
  return places.sort((one, other) => sign * (values[one] - values[other]));
}

/** The edges from images of one class to images of another, the most similar first, as {place, to, similarity}. */
export function edgesBetween(run, stage, one, other) {
  const found = [];
  for (const [place, label] of run.labels.entries()) {
    if (label !== one) continue;
    for (const { place: to, similarity } of neighboursOf(stage, place)) {
      if (run.labels[to] === other) found.push({ place, to, similarity });
    }
  }
  return found.sort((a, b) => b.similarity - a.similarity);
}

const percent = (share) => `${Math.round(100 * share)} %`;

/** What can be listed of a stage: name -> {name, about, places(), caption(place)}; only what the run's data has. */
export function listsOf(run, stage) {
  const { inDegree, changed, outlier, voted, voteShare } = stage.each;
  const lists = {
    hubs: {
      name: "Hubs",
      about: "Images that are neighbours most often",
      places: () => sortedBy(inDegree, -1, () => true),
      caption: (place) => `of ${inDegree[place]}`,
    },
    never: {
      name: "Never a neighbour",
      about: "Images that no other image has among its neighbours",
      places: () => sortedBy(inDegree, 1, (value) => value === 0),
      caption: () => "of none",
    },
    outliers: {
      name: "Outliers",
      about: "Images that are least similar to their own neighbours",
      places: () => sortedBy(outlier, 1, () => true),
      caption: (place) => `rank ${outlier[place]}`,
    },
  };
  if (changed) {
    lists.changed = {
      name: "Changed most",
      about: "Images with the most neighbours that they had not after the stage before",
      places: () => sortedBy(changed, -1, (value) => value > 0),
      caption: (place) => `${percent(changed[place])} new`,
    };
  }
  if (voted) {
    const doubtful = () => sortedBy(voteShare, -1, () => true).filter((place) => voted[place] !== run.labels[place]);
    lists.mislabelled = {
      name: "Likely mislabelled",
      about: "Images whose neighbours mostly have one other class: wrong labels are among them, and hard images",
      places: doubtful,
      caption: (place) => `${labelName(run, voted[place])}: ${percent(voteShare[place])}`,
    };
  }
  return lists;
}
