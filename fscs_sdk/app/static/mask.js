// A mask at the photo's full size, and what drawing does to it. A rectangle is {left, top, right, bottom}, ends excluded.

import { decodeRuns, encodeRuns } from "./runs.js";

export class Mask {
  /** The mask's pixels as of the last finished step: what the next step is told apart from. */
  #settled;

  constructor(width, height, pixels = new Uint8Array(width * height)) {
    this.width = width;
    this.height = height;
    this.pixels = pixels;
    this.#settled = pixels.slice();
    this.#dirty = null;
  }

  #dirty;

  static fromRuns(width, height, runs) {
    return new Mask(width, height, decodeRuns(runs, width * height));
  }

  runs() {
    return encodeRuns(this.pixels);
  }

  get isEmpty() {
    return !this.pixels.includes(1);
  }

  /** A round brush drawn from one point to another. */
  line(x0, y0, x1, y1, radius, value) {
    const r = Math.max(0.5, radius);
    const area = this.#within(Math.min(x0, x1) - r, Math.min(y0, y1) - r, Math.max(x0, x1) + r + 1, Math.max(y0, y1) + r + 1);
    const dx = x1 - x0;
    const dy = y1 - y0;
    const length = dx * dx + dy * dy;
    for (let y = area.top; y < area.bottom; y++) {
      for (let x = area.left; x < area.right; x++) {
        const px = x + 0.5 - x0;
        const py = y + 0.5 - y0;
        const along = length ? Math.min(1, Math.max(0, (px * dx + py * dy) / length)) : 0;
        const ex = px - along * dx;
        const ey = py - along * dy;
        if (ex * ex + ey * ey <= r * r) this.pixels[y * this.width + x] = value;
      }
    }
    return this.#touch(area);
  }

  box(x0, y0, x1, y1, value) {
    const area = this.#within(Math.round(Math.min(x0, x1)), Math.round(Math.min(y0, y1)), Math.round(Math.max(x0, x1)), Math.round(Math.max(y0, y1)));
    for (let y = area.top; y < area.bottom; y++) {
      this.pixels.fill(value, y * this.width + area.left, y * this.width + area.right);
    }
    return this.#touch(area);
  }

  /** The inside of a closed outline of points {x, y}: pixels whose middle an odd number of its sides lies right of. */
  polygon(points, value) {
    const ys = points.map((point) => point.y);
    const xs = points.map((point) => point.x);
    const area = this.#within(Math.min(...xs), Math.min(...ys), Math.max(...xs) + 1, Math.max(...ys) + 1);
    for (let y = area.top; y < area.bottom; y++) {
      const middle = y + 0.5;
      const crossings = [];
      points.forEach((from, index) => {
        const to = points[(index + 1) % points.length];
        if (from.y <= middle !== to.y <= middle) {
          crossings.push(from.x + ((middle - from.y) / (to.y - from.y)) * (to.x - from.x));
        }
      });
      crossings.sort((one, other) => one - other);
      for (let index = 0; index + 1 < crossings.length; index += 2) {
        const begin = Math.max(area.left, Math.ceil(crossings[index] - 0.5));
        const end = Math.min(area.right, Math.ceil(crossings[index + 1] - 0.5));
        if (end > begin) this.pixels.fill(value, y * this.width + begin, y * this.width + end);
      }
    }
    return this.#touch(area);
  }

  /**
   * Set the connected pixels of one value around a point to the other. Background that reaches the photo's border is
   * not closed: then nothing is changed, and null returned.
   */
  fill(x, y) {
    const { width, height, pixels } = this;
    const start = Math.floor(y) * width + Math.floor(x);
    const from = pixels[start];
    const waiting = [start];
    const found = [];
    pixels[start] = 2;
    let open = false;
    const area = { left: width, top: height, right: 0, bottom: 0 };
    while (waiting.length) {
      const at = waiting.pop();
      const column = at % width;
      const row = (at - column) / width;
      found.push(at);
      area.left = Math.min(area.left, column);
      area.right = Math.max(area.right, column + 1);
      area.top = Math.min(area.top, row);
      area.bottom = Math.max(area.bottom, row + 1);
      open ||= column === 0 || row === 0 || column === width - 1 || row === height - 1;
      const around = [column > 0 && at - 1, column < width - 1 && at + 1, row > 0 && at - width, row < height - 1 && at + width];
      for (const next of around) {
        if (next !== false && pixels[next] === from) {
          pixels[next] = 2;
          waiting.push(next);
        }
      }
    }
    const closed = from === 1 || !open;
    for (const at of found) pixels[at] = closed ? 1 - from : from;
    return closed ? this.#touch(area) : null;
  }

  replace(pixels) {
    this.pixels.set(pixels);
    return this.#touch({ left: 0, top: 0, right: this.width, bottom: this.height });
  }

  /** Finish a step: what changed since the last one, for a history; null if nothing did. */
  settle() {
    const area = this.#dirty;
    this.#dirty = null;
    if (!area) return null;
    const width = area.right - area.left;
    const changed = new Uint8Array(width * (area.bottom - area.top));
    let any = 0;
    for (let y = area.top; y < area.bottom; y++) {
      const row = y * this.width;
      for (let x = area.left; x < area.right; x++) {
        const difference = this.pixels[row + x] ^ this.#settled[row + x];
        changed[(y - area.top) * width + x - area.left] = difference;
        any |= difference;
      }
      this.#settled.set(this.pixels.subarray(row + area.left, row + area.right), row + area.left);
    }
    return any ? { area, runs: encodeRuns(changed) } : null;
  }

  /** Do a step that `settle` told, or take it back: the same thing. */
  toggle({ area, runs }) {
    const width = area.right - area.left;
    let at = 0;
    runs.forEach((length, index) => {
      if (index % 2) {
        for (let place = at; place < at + length; place++) {
          const spot = (area.top + Math.floor(place / width)) * this.width + area.left + (place % width);
          this.pixels[spot] ^= 1;
          this.#settled[spot] ^= 1;
        }
      }
      at += length;
    });
    return area;
  }

  #within(left, top, right, bottom) {
    const clamp = (value, most) => Math.min(most, Math.max(0, Math.floor(value)));
    return { left: clamp(left, this.width), top: clamp(top, this.height), right: clamp(right, this.width), bottom: clamp(bottom, this.height) };
  }

  #touch(area) {
    const known = this.#dirty;
    this.#dirty = known
      ? {
          left: Math.min(known.left, area.left),
          top: Math.min(known.top, area.top),
          right: Math.max(known.right, area.right),
          bottom: Math.max(known.bottom, area.bottom),
        }
      : { ...area };
    return area;
  }
}
