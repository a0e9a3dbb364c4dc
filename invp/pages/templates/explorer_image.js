// What the page says of one image: its neighbours, its walk, and what the loss takes of it.
import { className, hasWalk, neighboursOf, walkOf } from "./explorer_data.js";
import { byId, list, make, tally, thumbnail } from "./explorer_elements.js";

const MOST_CHOSEN = 8; // positives that the loss takes, and as many that it leaves
const KEPT_AS = "* marks what the loss takes, by the objective's rule on the graph at the end of this stage";

/** How many of the images with a label have the anchor's, in words; nothing without labels. */
function shareOfClass(run, anchor, images) {
  const labelled = images.filter(({ place }) => run.labels[place] >= 0);
  if (!labelled.length) return "";
  const same = labelled.filter(({ place }) => run.labels[place] === run.labels[anchor]);
  return `${same.length} of ${labelled.length} of the anchor's class`;
}

/** As tiles: a positive that the loss takes has a star. */
function tiles(run, anchor, images) {
  return images.map(({ place, similarity, chosen }) => {
    const like = run.labels[place] === run.labels[anchor] ? "same" : "other";
    return { place, caption: similarity.toFixed(3) + (chosen ? "*" : ""), like: run.labels[place] < 0 ? "" : like };
  });
}

export function neighbourList(run, stage, anchor, choose, id = "neighbours") {
  const images = neighboursOf(stage, anchor);
  const title = `${images.length} nearest neighbours`;
  return list(run, { id, title, note: shareOfClass(run, anchor, images), images: tiles(run, anchor, images) }, choose);
}

/** A list for each step of the walk, and the positives that the loss takes and leaves. */
function walkLists(run, anchor, walk, choose) {
  const lists = [];
  const add = (id, title, note, images) =>
    lists.push(list(run, { id, title, note, images: tiles(run, anchor, images) }, choose));
  for (let step = 1; step <= run.steps; step++) {
    const reached = walk.filter(({ distance }) => distance === step);
    if (reached.length)
      add(`step-${step}`, `Walk, step ${step}: ${reached.length} images`, shareOfClass(run, anchor, reached), reached);
  }
  const chosen = walk.filter((positive) => positive.chosen);
  const left = walk.filter((positive) => !positive.chosen);
  if (run.leastSimilarFirst) chosen.reverse();
  const title = `${run.kinds.chosen}: the loss takes ${chosen.length} of ${walk.length}, ${run.kinds.rule}`;
  const notes = [shareOfClass(run, anchor, chosen), KEPT_AS];
  add("chosen", title, notes.filter(Boolean).join("; "), chosen.slice(0, MOST_CHOSEN));
  const rest = left.length ? `the loss leaves ${left.length}` : "none, the loss takes all";
  add("left", `${run.kinds.left}: ${rest}`, shareOfClass(run, anchor, left), left.slice(0, MOST_CHOSEN));
  return lists;
}

/** What stands in place of a walk that was not kept: why, and a way to the next image with one. */
function missingWalk(run, stage, anchor, choose) {
  const note = "This image is not among the anchors whose positives were kept (graph.anchors).";
  const parts = [list(run, { id: "step-1", title: "Walk", note, images: [] }, choose)];
  for (let ahead = 1; ahead <= run.shown; ahead++) {
    const place = (anchor + ahead) % run.shown;
    if (hasWalk(stage, place)) {
      const button = make("button", { type: "button", id: "next-walk" }, "The next image with a walk");
      button.addEventListener("click", () => choose(place));
      return [...parts, button];
    }
  }
  return parts;
}

/** What is measured of an image, in words. */
function measured({ each }, anchor) {
  const share = (values) => `${Math.round(100 * values[anchor])} %`;
  const parts = [`in-degree ${each.inDegree[anchor]}`, `outlier rank ${each.outlier[anchor].toLocaleString()}`];
  if (each.changed) parts.push(`${share(each.changed)} of its neighbours changed since the last stage`);
  return parts.join(", ");
}

/** Fills the panel of the image that is chosen. */
export function drawImage(run, stage, anchor, choose) {
  byId("anchor").replaceChildren(thumbnail(run, anchor, "large"));
  byId("anchor-name").textContent = `Image ${run.numbers[anchor]}: ${className(run, anchor)}`;
  const near = neighboursOf(stage, anchor).map(({ place }) => place);
  byId("anchor-note").replaceChildren(`Neighbours: ${tally(run, near)}`, make("br", {}), measured(stage, anchor));
  const walk = walkOf(stage, anchor);
  const lists = [neighbourList(run, stage, anchor, choose)];
  if (walk.length) lists.push(...walkLists(run, anchor, walk, choose));
  else if (run.steps) lists.push(...missingWalk(run, stage, anchor, choose));
  byId("lists").replaceChildren(...lists);
}
