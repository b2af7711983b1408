// The maps of an answer, and what they say at any threshold: no request is needed while a slider moves.

import { links } from "./api.js";
import { presences } from "./chips.js";
import { store } from "./store.js";

const kept = new Map();
const MOST_KEPT = 400;

/** The maps of a photo's answer: {width, height, layers: [Uint8Array per class, then the background]}. */
export function loadMaps(photo) {
  const { answer } = photo;
  const key = `${photo.id} ${answer.state} ${answer.seconds}`;
  if (!kept.has(key)) {
    if (kept.size >= MOST_KEPT) kept.delete(kept.keys().next().value);
    const loading = fetchMaps(photo, key);
    kept.set(key, loading);
    loading.catch(() => kept.delete(key));
  }
  return kept.get(key);
}

async function fetchMaps({ id, answer }, key) {
  const response = await fetch(links.maps(id, key));
  if (!response.ok) throw new Error("the maps of this photo are not there yet");
  const picture = await createImageBitmap(await response.blob(), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const [height, width] = answer.map_size;
  const context = new OffscreenCanvas(picture.width, picture.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const values = context.getImageData(0, 0, picture.width, picture.height).data;
  const layers = Array.from({ length: answer.names.length + 1 }, (_, layer) => {
    const map = new Uint8Array(width * height);
    for (let at = 0; at < map.length; at++) map[at] = values[4 * (layer * map.length + at)];
    return map;
  });
  return { width, height, layers };
}

/** For every pixel of the maps 0 = background or the number of the class (eq. 5), classes that are absent left out. */
export function labels({ layers }, present) {
  const background = layers.at(-1);
  const found = new Uint8Array(background.length);
  for (let at = 0; at < found.length; at++) {
    let best = background[at];
    for (let index = 0; index < present.length; index++) {
      if (present[index] && layers[index][at] > best) {
        best = layers[index][at];
        found[at] = index + 1;
      }
    }
  }
  return found;
}

const rgb = (color) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));

/** Draw the areas of an answer at the thresholds in force. */
export function paintAreas(canvas, maps, answer) {
  const found = labels(maps, presences(answer).map(({ present }) => present));
  const colors = answer.names.map((name) => rgb(store.color(name)));
  paint(canvas, maps, (at, out) => {
    const number = found[at];
    if (!number) return;
    const column = at % maps.width;
    const edge =
      column === 0 || column === maps.width - 1 || found[at - 1] !== number || found[at + 1] !== number ||
      found[at - maps.width] !== number || found[at + maps.width] !== number;
    out.set(colors[number - 1], 4 * at);
    out[4 * at + 3] = edge ? 255 : 105;
  });
}

/** Draw one class's map: nothing at 0, through violet and orange, light yellow at 1. */
export function paintHeat(canvas, maps, index) {
  const stops = [[40, 11, 84], [101, 21, 110], [159, 42, 99], [212, 72, 66], [245, 125, 21], [250, 193, 39], [252, 255, 164]];
  paint(canvas, maps, (at, out) => {
    const value = (maps.layers[index][at] / 255) * (stops.length - 1);
    const low = Math.min(stops.length - 2, Math.floor(value));
    for (let channel = 0; channel < 3; channel++) {
      out[4 * at + channel] = stops[low][channel] + (value - low) * (stops[low + 1][channel] - stops[low][channel]);
    }
    out[4 * at + 3] = 70 + 0.55 * maps.layers[index][at];
  });
}

function paint(canvas, { width, height }, set) {
  canvas.width = width;
  canvas.height = height;
  const picture = new ImageData(width, height);
  for (let at = 0; at < width * height; at++) set(at, picture.data);
  canvas.getContext("2d").putImageData(picture, 0, 0);
}
