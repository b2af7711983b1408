// Masks as the lengths of their runs, background first, row by row: what travels between page and server.

/** Uint8Array of 0 and 1 -> Uint32Array */
export function encodeRuns(pixels) {
  let count = 1;
  for (let at = 1, last = pixels[0]; at < pixels.length; at++) {
    if (pixels[at] !== last) {
      last = pixels[at];
      count++;
    }
  }
  const runs = new Uint32Array(count + (pixels[0] ? 1 : 0));
  let place = pixels[0] ? 1 : 0;
  let begun = 0;
  for (let at = 1; at < pixels.length; at++) {
    if (pixels[at] !== pixels[at - 1]) {
      runs[place++] = at - begun;
      begun = at;
    }
  }
  runs[place] = pixels.length - begun;
  return runs;
}

/** Uint32Array -> Uint8Array of 0 and 1, `length` long */
export function decodeRuns(runs, length) {
  const pixels = new Uint8Array(length);
  let at = 0;
  for (let index = 0; index < runs.length; index++) {
    if (index % 2) pixels.fill(1, at, at + runs[index]);
    at += runs[index];
  }
  if (at !== length) throw new Error(`the runs have ${at} pixels, not ${length}`);
  return pixels;
}
