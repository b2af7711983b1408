// What a pointer does to the mask. A tool gets places in the photo: press, drag, release; `retract` takes the press back
// (the mask is the editor's to take back); `draw` shows it on the screen. Press and drag return the rectangle that
// changed, or nothing.

import { toScreen } from "./zoom.js";

class Stroke {
  #last = null;
  #before = 0;

  constructor(editor, value) {
    this.editor = editor;
    this.value = value;
  }

  press(point) {
    this.#last = point;
    this.#before = this.editor.strokes.length;
    return this.drag(point);
  }

  drag(point) {
    if (!this.#last) return null;
    const from = this.#last;
    this.#last = point;
    const radius = this.editor.size / 2;
    this.editor.strokes.push({ x0: from.x, y0: from.y, x1: point.x, y1: point.y, radius, value: this.value });
    return this.editor.mask.line(from.x, from.y, point.x, point.y, radius, this.value);
  }

  release() {
    this.#last = null;
    this.editor.settle();
  }

  retract() {
    this.#last = null;
    this.editor.strokes.length = this.#before;
  }

  draw(context, view, point) {
    if (!point) return;
    const { x, y } = toScreen(view, point.x, point.y);
    const radius = Math.max(1, (this.editor.size / 2) * view.scale);
    ring(context, () => context.arc(x, y, radius, 0, 2 * Math.PI));
    if (!this.value) ring(context, () => { context.moveTo(x - 4, y); context.lineTo(x + 4, y); });
  }
}

class Corners {
  #from = null;
  #to = null;

  constructor(editor, act) {
    this.editor = editor;
    this.act = act;
  }

  press(point) {
    this.#from = this.#to = point;
  }

  drag(point) {
    if (this.#from) this.#to = point;
  }

  release() {
    const [from, to] = [this.#from, this.#to];
    this.#from = this.#to = null;
    if (from && Math.abs(to.x - from.x) >= 1 && Math.abs(to.y - from.y) >= 1) this.act(from, to);
  }

  cancel() {
    this.#from = this.#to = null;
  }

  retract() {
    this.cancel();
  }

  draw(context, view, point) {
    const from = this.#from ?? point;
    if (!from) return;
    const corner = toScreen(view, from.x, from.y);
    if (!this.#from) {
      ring(context, () => {
        context.moveTo(corner.x - 9, corner.y);
        context.lineTo(corner.x + 9, corner.y);
        context.moveTo(corner.x, corner.y - 9);
        context.lineTo(corner.x, corner.y + 9);
      });
      return;
    }
    const other = toScreen(view, this.#to.x, this.#to.y);
    ring(context, () => context.rect(corner.x, corner.y, other.x - corner.x, other.y - corner.y));
  }
}

class Polygon {
  #points = [];

  constructor(editor) {
    this.editor = editor;
  }

  press(point) {
    const [first] = this.#points;
    const near = 10 / this.editor.surface.view.scale;
    if (this.#points.length > 2 && Math.hypot(point.x - first.x, point.y - first.y) < near) this.finish();
    else this.#points.push(point);
  }

  drag() {}

  release() {}

  retract() {
    this.#points.pop();
  }

  /** Close the outline. */
  finish() {
    const points = this.#points;
    this.#points = [];
    if (points.length < 3) return;
    this.editor.surface.drawMask(this.editor.mask.polygon(points, 1));
    this.editor.settle();
  }

  cancel() {
    this.#points = [];
  }

  draw(context, view, point) {
    const places = [...this.#points, ...(point ? [point] : [])].map(({ x, y }) => toScreen(view, x, y));
    if (!places.length) return;
    ring(context, () => places.forEach(({ x, y }, index) => (index ? context.lineTo(x, y) : context.moveTo(x, y))));
    for (const { x, y } of places) ring(context, () => context.arc(x, y, 3.5, 0, 2 * Math.PI));
  }
}

class Fill {
  constructor(editor) {
    this.editor = editor;
  }

  press({ x, y }) {
    const { mask } = this.editor;
    if (x < 0 || y < 0 || x >= mask.width || y >= mask.height) return null;
    const area = mask.fill(x, y);
    if (!area) this.editor.tell("This area is open: close its outline first, then fill it");
    return area;
  }

  drag() {}

  release() {
    this.editor.settle();
  }

  retract() {}

  draw(context, view, point) {
    if (!point) return;
    const { x, y } = toScreen(view, point.x, point.y);
    ring(context, () => context.arc(x, y, 4, 0, 2 * Math.PI));
  }
}

class Hand {
  press() {}

  drag() {}

  release() {}

  retract() {}

  draw() {}
}

/** White on black, so that it shows on every photo. */
function ring(context, trace) {
  for (const [color, width] of [["#000a", 3.5], ["#fff", 1.5]]) {
    context.beginPath();
    trace();
    context.strokeStyle = color;
    context.lineWidth = width * devicePixelRatio;
    context.stroke();
  }
}

/** Name, key and hint of each tool, in the order of the bar. */
export const TOOLS = [
  { name: "suggest", key: "s", label: "Suggest", hint: "Draw a box around the object: its outline is suggested" },
  { name: "brush", key: "b", label: "Brush", hint: "Paint the object; slider or wheel change the size" },
  { name: "eraser", key: "e", label: "Eraser", hint: "Take away what is too much" },
  { name: "polygon", key: "p", label: "Polygon", hint: "Click corner after corner; Enter closes the outline" },
  { name: "box", key: "r", label: "Box", hint: "Mark all of a rectangle" },
  { name: "fill", key: "g", label: "Fill", hint: "Fill a hole, or clear a part" },
  { name: "pan", key: "h", label: "Move", hint: "Move the photo; Ctrl and the wheel, or two fingers, zoom" },
];

export function makeTools(editor) {
  const box = (from, to) => {
    editor.surface.drawMask(editor.mask.box(from.x, from.y, to.x, to.y, 1));
    editor.settle();
  };
  return {
    suggest: new Corners(editor, (from, to) => editor.suggest({ from, to })),
    brush: new Stroke(editor, 1),
    eraser: new Stroke(editor, 0),
    polygon: new Polygon(editor),
    box: new Corners(editor, box),
    fill: new Fill(editor),
    pan: new Hand(),
  };
}
