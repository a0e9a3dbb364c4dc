// A second run of the same images beside the first: the page of its explorer is read from the user's disk.
import { neighboursOf, readRun } from "./explorer_data.js";
import { byId, list, make } from "./explorer_elements.js";

/** The run in the page of another explorer; an Error says why it is none of the same images. */
export async function readSecond(run, file) {
  const page = new DOMParser().parseFromString(await file.text(), "text/html");
  const data = page.getElementById("data");
  if (!data || !page.getElementById("pictures")) throw new Error(`${file.name} is no explorer's page of this version`);
  const second = readRun(data.textContent);
  const same = second.images === run.images && second.numbers.every((number, place) => number === run.numbers[place]);
  if (!same || second.shown !== run.shown) throw new Error(`${file.name} shows other images than this page`);
  return second;
}

/** The stages of the second run to choose from, the last one first. */
export function drawSecondStages(second) {
  const options = second.stages.map(({ epoch }, index) => make("option", { value: index }, String(epoch)));
  byId("second-stage").replaceChildren(...options);
  byId("second-stage").value = second.stages.length - 1;
  byId("second-title").textContent = `${second.title} (${second.experiment}, seed ${second.seed})`;
}

/** The neighbours of the image in both runs: those of both, of the first alone, of the second alone. */
export function drawBoth(run, stage, second, other, anchor, choose) {
  const [ours, theirs] = [stage, other].map((each) => neighboursOf(each, anchor));
  const isIn = (images) => {
    const places = new Set(images.map(({ place }) => place));
    return ({ place }) => places.has(place);
  };
  const tiles = (images) =>
    images.map(({ place, similarity }) => ({
      place,
      caption: similarity.toFixed(3),
      like: run.labels[place] < 0 ? "" : run.labels[place] === run.labels[anchor] ? "same" : "other",
    }));
  const both = ours.filter(isIn(theirs));
  const first = ours.filter((each) => !isIn(theirs)(each));
  const last = theirs.filter((each) => !isIn(ours)(each));
  byId("second-lists").replaceChildren(
    list(run, { id: "in-both", title: `Neighbours in both: ${both.length}`, images: tiles(both) }, choose),
    list(run, { id: "in-first", title: `Only in ${run.experiment}, seed ${run.seed}`, images: tiles(first) }, choose),
    list(
      run,
      { id: "in-second", title: `Only in ${second.experiment}, seed ${second.seed}`, images: tiles(last) },
      choose,
    ),
  );
}
