// The editor's drawing area: photo, mask and pointer as three layers, each drawn at the screen's size. So the cost of a
// stroke is that of the pixels it touches on the screen, whatever the photo's size.

import { links } from "./api.js";
import { h } from "./dom.js";
import { fit, pan, toPhoto, toScreen, zoomAt } from "./zoom.js";

const SCREEN_SIDE = 2048;
const CLOSE_SIDE = 6000;

export class Surface {
  #layers = { photo: h("canvas"), mask: h("canvas"), pointer: h("canvas") };
  #picture = null;
  #closePicture = null;
  #buffer = null;
  #colors = [0, 0];
  #watch = new ResizeObserver(() => this.resize());

  /** `photo`: {id, width, height}; `mask`: a Mask of that size; `drawPointer(context)`: called with each redrawing. */
  constructor(photo, mask, drawPointer) {
    this.photo = photo;
    this.mask = mask;
    this.drawPointer = drawPointer;
    this.screen = { width: 1, height: 1 };
    this.view = fit(photo, this.screen);
    this.element = h(
      "div",
      { class: "surface", data: { width: photo.width, height: photo.height }, tabIndex: 0, role: "application", ariaLabel: `Drawing area: ${photo.name}. Arrow keys move the pointer, space presses it.` },
      ...Object.values(this.#layers),
    );
    this.#watch.observe(this.element);
    this.ready = this.#load(SCREEN_SIDE).then((picture) => {
      this.#picture = picture;
      this.draw();
    });
  }

  close() {
    this.#watch.disconnect();
  }

  set color(color) {
    const [r, g, b] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
    const packed = (b << 16) | (g << 8) | r;
    this.#colors = [(packed | (110 << 24)) >>> 0, (packed | (255 << 24)) >>> 0];
    this.draw();
  }

  /** A pointer event's place in the photo, in pixels. */
  place(event) {
    const box = this.element.getBoundingClientRect();
    return toPhoto(this.view, (event.clientX - box.left) * devicePixelRatio, (event.clientY - box.top) * devicePixelRatio);
  }

  /** A photo that was shown whole is shown whole again; of another, what was in the middle stays there. */
  resize() {
    const box = this.element.getBoundingClientRect();
    const before = this.screen;
    const whole = fit(this.photo, before);
    const isWhole = ["scale", "x", "y"].every((key) => whole[key] === this.view[key]);
    this.screen = { width: Math.max(1, Math.round(box.width * devicePixelRatio)), height: Math.max(1, Math.round(box.height * devicePixelRatio)) };
    for (const layer of Object.values(this.#layers)) Object.assign(layer, this.screen);
    this.#buffer = new ImageData(this.screen.width, this.screen.height);
    const moved = [this.screen.width - before.width, this.screen.height - before.height].map((more) => more / 2);
    this.view = isWhole ? fit(this.photo, this.screen) : pan(this.view, ...moved, this.photo, this.screen);
    this.draw();
  }

  fit() {
    this.view = fit(this.photo, this.screen);
    this.draw();
  }

  /** Zoom by a factor, around a point of the photo or the middle of the screen. */
  zoom(factor, point) {
    const at = point ? toScreen(this.view, point.x, point.y) : { x: this.screen.width / 2, y: this.screen.height / 2 };
    this.view = pan(zoomAt(this.view, at.x, at.y, factor, this.photo, this.screen), 0, 0, this.photo, this.screen);
    this.draw();
  }

  /** Move by screen pixels of the page. */
  pan(dx, dy) {
    this.view = pan(this.view, dx * devicePixelRatio, dy * devicePixelRatio, this.photo, this.screen);
    this.draw();
  }

  draw() {
    if (!this.#buffer) return;
    this.#drawPhoto();
    this.drawMask({ left: 0, top: 0, right: this.photo.width, bottom: this.photo.height });
    this.point();
  }

  /** Draw the mask anew where it changed: a rectangle of the photo, or null for nowhere. */
  drawMask(area) {
    if (!area || !this.#buffer) return;
    const { scale, x, y } = this.view;
    const { width, height } = this.screen;
    const left = Math.max(0, Math.floor(area.left * scale + x) - 2);
    const top = Math.max(0, Math.floor(area.top * scale + y) - 2);
    const right = Math.min(width, Math.ceil(area.right * scale + x) + 2);
    const bottom = Math.min(height, Math.ceil(area.bottom * scale + y) + 2);
    if (right <= left || bottom <= top) return;
    const out = new Uint32Array(this.#buffer.data.buffer);
    const columns = this.#places(left - 2, right + 2, x, scale, this.mask.width);
    const rows = this.#places(top - 2, bottom + 2, y, scale, this.mask.height);
    const { pixels } = this.mask;
    const span = this.mask.width;
    const at = (row, column) => (row < 0 || column < 0 ? 0 : pixels[row * span + column]);
    for (let row = top; row < bottom; row++) {
      const r = row - top + 2;
      for (let column = left; column < right; column++) {
        const c = column - left + 2;
        let value = 0;
        if (at(rows[r], columns[c])) {
          const edge = !at(rows[r - 2], columns[c]) || !at(rows[r + 2], columns[c]) || !at(rows[r], columns[c - 2]) || !at(rows[r], columns[c + 2]);
          value = this.#colors[edge ? 1 : 0];
        }
        out[row * width + column] = value;
      }
    }
    this.#layers.mask.getContext("2d").putImageData(this.#buffer, 0, 0, left, top, right - left, bottom - top);
  }

  /** Draw what belongs to the pointer: brush, box, corners. */
  point() {
    const context = this.#layers.pointer.getContext("2d");
    context.clearRect(0, 0, this.screen.width, this.screen.height);
    this.drawPointer(context);
  }

  /** The mask's column (or row) under each of the screen's; -1 outside. */
  #places(from, to, offset, scale, length) {
    const places = new Int32Array(to - from);
    for (let index = 0; index < places.length; index++) {
      const place = Math.floor((from + index + 0.5 - offset) / scale);
      places[index] = place >= 0 && place < length ? place : -1;
    }
    return places;
  }

  #drawPhoto() {
    const { scale, x, y } = this.view;
    const needed = (this.#picture?.naturalWidth ?? 0) * 1.2 < this.photo.width * Math.min(1, scale);
    if (this.#picture && needed && !this.#closePicture && this.photo.width > this.#picture.naturalWidth) {
      this.#closePicture = "loading";
      this.#load(CLOSE_SIDE).then((picture) => {
        this.#closePicture = picture;
        this.draw();
      });
    }
    const picture = this.#closePicture instanceof HTMLImageElement && needed ? this.#closePicture : this.#picture;
    const context = this.#layers.photo.getContext("2d");
    context.clearRect(0, 0, this.screen.width, this.screen.height);
    if (!picture) return;
    const from = toPhoto(this.view, 0, 0);
    const to = toPhoto(this.view, this.screen.width, this.screen.height);
    const left = Math.max(0, Math.floor(from.x));
    const top = Math.max(0, Math.floor(from.y));
    const width = Math.min(this.photo.width, Math.ceil(to.x)) - left;
    const height = Math.min(this.photo.height, Math.ceil(to.y)) - top;
    if (width <= 0 || height <= 0) return;
    const ratio = picture.naturalWidth / this.photo.width;
    context.imageSmoothingEnabled = scale < 6;
    context.drawImage(picture, left * ratio, top * ratio, width * ratio, height * ratio, left * scale + x, top * scale + y, width * scale, height * scale);
  }

  async #load(side) {
    const picture = new Image();
    picture.src = links.view(this.photo.id, side);
    await picture.decode();
    return picture;
  }
}
