// Mark a class in a photo: tools, canvas, undo, and what is kept while it is drawn.

import { api } from "./api.js";
import { Surface } from "./canvas.js";
import { dialog, h, icon, isTyping } from "./dom.js";
import { History } from "./history.js";
import { UNNAMED } from "./intake.js";
import { Mask } from "./mask.js";
import { attempt, notice } from "./notices.js";
import { encodeRuns } from "./runs.js";
import { store } from "./store.js";
import { makeTools, TOOLS } from "./tools.js";

/**
 * Open the editor on a photo.
 *
 * `name`: the class to mark; `propose`: begin with what the model found, where nothing was drawn yet.
 */
export async function openEditor(id, { name = "", propose = false } = {}) {
  const photo = await attempt(() => api.describe(id));
  if (!photo) return;
  const drafted = photo.drafts.find((draft) => draft === name) ?? (name ? undefined : photo.drafts[0]);
  const marked = Object.keys(photo.shots);
  const first = name || (drafted && drafted !== UNNAMED ? drafted : "") || (marked.length === 1 ? marked[0] : "");
  const editor = new Editor(photo, first, propose);
  await editor.open(drafted ?? first);
}

/** Milliseconds in which a second finger makes a gesture of what the first began to draw. */
const TWO_FINGERS = 400;
/** The button that a pen's other end is, in pointer events. */
const ERASER_END = 5;

class Editor {
  size = 24;
  strokes = [];
  #box = null;
  #history = new History();
  #tool = "suggest";
  #point = null;
  /** The tool that is pressed, since when, and all pointers that are down. */
  #pressed = null;
  #since = 0;
  #fingers = new Map();
  #version = "";
  #saving = null;
  #unsaved = false;
  #finishing = false;
  #keptAs = "";
  #suggesting = false;

  constructor(photo, name, propose) {
    this.photo = photo;
    this.name = name;
    this.propose = propose;
  }

  async open(from) {
    this.mask = await this.#firstMask(from);
    this.size = Math.max(4, Math.round(Math.max(this.photo.width, this.photo.height) / 28));
    this.tools = makeTools(this);
    this.surface = new Surface(this.photo, this.mask, (context) => (this.#pressed ?? this.tools[this.#tool]).draw(context, this.surface.view, this.#point));
    this.#build();
    this.surface.color = this.#color();
    this.#follow();
    this.surface.resize();
    (this.name ? this.surface.element : this.naming).focus();
  }

  tell(sentence) {
    notice(sentence);
  }

  /** A step is finished: it can be undone, and goes to the disk. */
  settle() {
    const step = this.mask.settle();
    if (step) {
      this.#history.push(step);
      this.#changed();
    }
  }

  /** Ask for an outline: in a box, or from the strokes that there are. */
  async suggest(box = null) {
    if (box) {
      const whole = ({ x, y }) => [Math.round(x), Math.round(y)];
      this.#box = [...whole(box.from), ...whole(box.to)];
      this.strokes = [];
    }
    if (this.#suggesting) return;
    this.#suggesting = true;
    this.element.classList.add("working");
    const asked = { box: this.#box, inside: this.#strokeRuns(1), outside: this.#strokeRuns(0) };
    const runs = await attempt(() => api.suggest(this.photo.id, asked));
    this.#suggesting = false;
    this.element.classList.remove("working");
    if (!runs || !this.element.isConnected) return;
    this.surface.drawMask(this.mask.replace(Mask.fromRuns(this.photo.width, this.photo.height, runs).pixels));
    this.settle();
    this.hint.textContent = "Correct it with brush and eraser, or let it be suggested again from your strokes";
    if (this.mask.isEmpty) notice("Nothing stands out there: paint a stroke on the object, then suggest again");
  }

  // ------------------------------------------------------------------------------------------------------- beginning

  async #firstMask(from) {
    const { id, width, height, shots, drafts } = this.photo;
    const sources = [
      [drafts.includes(from), "draft", from],
      [shots[this.name], "shot", this.name],
      [this.propose && store.photo(id)?.answer?.names?.includes(this.name), "answer", this.name],
    ];
    for (const [there, source, name] of sources) {
      if (!there) continue;
      const found = await attempt(() => api.mask(id, name, source));
      if (!found) continue;
      if (source === "draft") {
        this.#version = found.version;
        this.#keptAs = name;
      }
      return Mask.fromRuns(width, height, found.runs);
    }
    return new Mask(width, height);
  }

  #build() {
    const classes = store.workspace.classes.map(({ name }) => name);
    this.naming = h("input", {
      type: "text", class: "naming", value: classes.includes(this.name) ? "" : this.name, autocomplete: "off", maxLength: 60,
      placeholder: classes.length ? "another class" : "such as cat",
      ariaLabel: "Name of a new class", oninput: () => this.#rename(this.naming.value),
    });
    const pills = classes.map((name) =>
      h("button", { type: "button", class: "pill", data: { name }, style: { "--color": store.color(name) }, onclick: () => this.#choose(name) }, name));
    this.pills = pills;
    const button = (label, name, key, act) =>
      h("button", { type: "button", class: "tool", title: `${label} (${key})`, ariaLabel: label, ariaKeyshortcuts: key, onclick: act }, icon(name));
    this.bar = TOOLS.map(({ name, key, label, hint }) =>
      h("button", { type: "button", class: "tool", data: { tool: name }, title: `${hint} (${key.toUpperCase()})`, ariaKeyshortcuts: key, onclick: () => this.#take(name) }, icon(name), h("span", {}, label)));
    this.undoing = button("Undo", "undo", "Control+Z", () => this.#step("undo"));
    this.redoing = button("Redo", "redo", "Control+Y", () => this.#step("redo"));
    this.again = h("button", { type: "button", class: "again", hidden: true, onclick: () => this.suggest() }, "Suggest again");
    this.state = h("span", { class: "saved", role: "status" });
    this.hint = h("p", { class: "hint" });
    this.sizing = h("input", {
      type: "range", min: 1, max: 300, value: this.size, ariaLabel: "Size of the brush in pixels", oninput: () => this.#resize(Number(this.sizing.value)),
    });
    this.saving = h("button", { type: "button", class: "primary", onclick: () => this.#save() }, "Save example");
    this.discarding = h("button", { type: "button", class: "quiet discard", hidden: !this.#keptAs, onclick: () => this.#discard() }, "Discard draft");
    const importing = h("input", { type: "file", accept: "image/*", hidden: true, ariaLabel: "Mask file", onchange: () => this.#import(importing) });
    this.element = dialog(
      { class: "editor", ariaLabel: `Mark ${this.photo.name}` },
      h(
        "header",
        {},
        h("button", { type: "button", class: "quiet", ariaLabel: "Close", title: "Close (Esc)", onclick: () => this.element.close() }, icon("close")),
        h("div", { class: "class-choice", role: "group", ariaLabel: "Class" }, h("span", { class: "label" }, "This is"), pills.length ? h("div", { class: "pills" }, pills) : null, this.naming),
        this.state,
        this.saving,
      ),
      h("nav", { class: "tools", ariaLabel: "Tools" }, this.bar, h("hr"), this.undoing, this.redoing, button("Whole photo", "fit", "0", () => this.surface.fit())),
      this.surface.element,
      h(
        "footer",
        {},
        this.hint,
        h("label", { class: "size" }, h("span", {}, "Size"), this.sizing),
        this.again,
        h("button", { type: "button", class: "quiet", onclick: () => importing.click() }, "Import a mask"),
        importing,
        this.discarding,
        h("button", { type: "button", class: "quiet", onclick: () => this.#tag() }, "Add without outline"),
        h("button", { type: "button", class: "quiet", onclick: () => this.#none() }, "None of these"),
      ),
    );
    this.#take(this.mask.isEmpty ? "suggest" : "brush");
    this.#rename(this.name);
    this.#showHistory();
  }

  #follow() {
    const { element } = this.surface;
    element.addEventListener("pointerdown", (event) => this.#down(event));
    element.addEventListener("pointermove", (event) => this.#move(event));
    element.addEventListener("pointerup", (event) => this.#up(event));
    element.addEventListener("pointercancel", (event) => this.#up(event));
    element.addEventListener("pointerleave", () => { if (!this.#pressed) this.#pointAt(null); });
    element.addEventListener("contextmenu", (event) => event.preventDefault());
    element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("close", () => {
      this.surface.close();
      this.#keep();
    });
  }

  // --------------------------------------------------------------------------------------------------------- pointer

  #down(event) {
    const pens = [...this.#fingers.values()].filter(({ pointerType }) => pointerType === "pen");
    if (event.pointerType === "touch" && pens.length) return; // the hand that holds the pen
    if (event.pointerType === "pen" && this.#fingers.size) {
      this.#retract();
      this.#fingers.clear();
    }
    this.surface.element.setPointerCapture(event.pointerId);
    this.#fingers.set(event.pointerId, event);
    if (this.#fingers.size > 1) {
      if (event.timeStamp - this.#since < TWO_FINGERS) this.#retract();
      else this.#release();
      return;
    }
    this.#since = event.timeStamp;
    if (event.button === ERASER_END) this.#press(this.surface.place(event), this.tools.eraser);
    else if (event.button === 0 && this.#tool !== "pan") this.#press(this.surface.place(event));
  }

  #move(event) {
    const before = this.#fingers.get(event.pointerId);
    if (this.#fingers.size && !before) return;
    if (this.#fingers.size > 1) this.#pinch(before, event);
    else if (before && !this.#pressed) this.surface.pan(event.clientX - before.clientX, event.clientY - before.clientY);
    else if (this.#pressed) {
      const passed = event.getCoalescedEvents?.() ?? [];
      for (const each of passed.length ? passed : [event]) {
        this.surface.drawMask(this.#pressed.drag(this.surface.place(each)));
      }
    }
    if (before) this.#fingers.set(event.pointerId, event);
    this.#pointAt(this.surface.place(event));
  }

  #up(event) {
    if (this.#fingers.delete(event.pointerId)) this.#release();
  }

  /** What was between two fingers stays between them. */
  #pinch(before, event) {
    const other = [...this.#fingers.values()].find(({ pointerId }) => pointerId !== event.pointerId);
    const distance = (one) => Math.hypot(one.clientX - other.clientX, one.clientY - other.clientY);
    const middle = { clientX: (before.clientX + other.clientX) / 2, clientY: (before.clientY + other.clientY) / 2 };
    this.surface.zoom(distance(event) / Math.max(1, distance(before)), this.surface.place(middle));
    this.surface.pan((event.clientX - before.clientX) / 2, (event.clientY - before.clientY) / 2);
  }

  #press(point, tool = this.tools[this.#tool]) {
    this.#pressed = tool;
    this.surface.drawMask(tool.press(point));
    this.#pointAt(point);
  }

  #release() {
    const tool = this.#pressed;
    this.#pressed = null;
    tool?.release();
    this.surface.point();
  }

  /** A second finger came: the first did not mean to draw. */
  #retract() {
    this.#pressed?.retract();
    this.#pressed = null;
    const step = this.mask.settle();
    if (step) this.surface.drawMask(this.mask.toggle(step));
    this.surface.point();
  }

  #pointAt(point) {
    this.#point = point;
    this.surface.point();
  }

  #wheel(event) {
    event.preventDefault();
    const up = event.deltaY < 0;
    if (event.ctrlKey || !["brush", "eraser"].includes(this.#tool)) this.surface.zoom(up ? 1.15 : 1 / 1.15, this.surface.place(event));
    else this.#resize(this.size * (up ? 1.15 : 1 / 1.15));
  }

  // -------------------------------------------------------------------------------------------------------- keyboard

  #key(event) {
    if (isTyping(event)) {
      if (event.key === "Enter") this.surface.element.focus();
      return;
    }
    const key = event.key.toLowerCase();
    if (event.ctrlKey || event.metaKey) {
      if (key === "z") this.#step(event.shiftKey ? "redo" : "undo");
      else if (key === "y") this.#step("redo");
      else if (key === "s" || key === "enter") this.#save();
      else return;
      event.preventDefault();
      return;
    }
    const tool = TOOLS.find((item) => item.key === key);
    const onButton = event.target instanceof HTMLButtonElement || event.target.type === "range";
    const steps = { arrowleft: [-1, 0], arrowright: [1, 0], arrowup: [0, -1], arrowdown: [0, 1] };
    if (tool) {
      if (tool.name === "suggest" && this.#tool !== "suggest" && this.strokes.length) this.suggest();
      else this.#take(tool.name);
    } else if (steps[key] && !onButton) this.#moveByKey(steps[key], event.shiftKey);
    else if (key === " " && !onButton) {
      if (!event.repeat) this.#pressByKey();
    } else if (key === "enter" && !onButton) {
      if (this.#tool === "polygon") this.tools.polygon.finish();
      else this.#pressByKey();
    } else if (key === "[") this.#resize(this.size / 1.2);
    else if (key === "]") this.#resize(this.size * 1.2);
    else if (key === "+" || key === "=") this.surface.zoom(1.25, this.#point);
    else if (key === "-") this.surface.zoom(1 / 1.25, this.#point);
    else if (key === "0") this.surface.fit();
    else if (key === "z") this.#step(event.shiftKey ? "redo" : "undo");
    else if (key === "y") this.#step("redo");
    else if (key === "escape" && this.#pressed) {
      this.#pressed.cancel?.();
      this.#release();
    } else return;
    event.preventDefault();
    this.surface.point();
  }

  #moveByKey([dx, dy], fast) {
    const step = (fast ? 40 : 8) / this.surface.view.scale;
    const from = this.#point ?? { x: this.photo.width / 2, y: this.photo.height / 2 };
    const point = {
      x: Math.min(this.photo.width, Math.max(0, from.x + dx * step)),
      y: Math.min(this.photo.height, Math.max(0, from.y + dy * step)),
    };
    this.surface.drawMask(this.#pressed?.drag(point));
    this.#pointAt(point);
  }

  #pressByKey() {
    if (this.#pressed && this.#tool !== "polygon") this.#release();
    else this.#press(this.#point ?? { x: this.photo.width / 2, y: this.photo.height / 2 });
  }

  // ---------------------------------------------------------------------------------------------------------- actions

  #take(name) {
    this.#release();
    this.tools[this.#tool].cancel?.();
    this.#tool = name;
    for (const button of this.bar) button.setAttribute("aria-pressed", String(button.dataset.tool === name));
    this.hint.textContent = TOOLS.find((tool) => tool.name === name).hint;
    this.surface.element.dataset.tool = name;
    this.surface.point();
  }

  #resize(size) {
    this.size = Math.min(Math.max(300, this.photo.width / 4), Math.max(1, size));
    this.sizing.value = this.size;
    this.surface.point();
  }

  #step(direction) {
    const step = this.#history[direction]();
    if (!step) return;
    this.surface.drawMask(this.mask.toggle(step));
    this.#changed();
  }

  #choose(name) {
    this.naming.value = "";
    this.#rename(name);
    this.surface.element.focus();
  }

  #rename(name) {
    this.name = name.trim();
    for (const pill of this.pills) pill.setAttribute("aria-pressed", String(pill.dataset.name === this.name));
    this.surface.color = this.#color();
    this.saving.disabled = !this.name || this.mask.isEmpty;
  }

  #color() {
    return store.workspace.classes.some(({ name }) => name === this.name) ? store.color(this.name) : "#3fc3a1";
  }

  #changed() {
    this.#unsaved = true;
    this.saving.disabled = !this.name || this.mask.isEmpty;
    if (this.strokes.length) this.again.hidden = false;
    this.#showHistory();
    this.#keep();
  }

  #showHistory() {
    this.undoing.disabled = !this.#history.canUndo;
    this.redoing.disabled = !this.#history.canRedo;
  }

  /** Keep the mask on disk while it is drawn; strokes made meanwhile go with the next request. */
  async #keep() {
    if (!this.#unsaved || this.#saving || this.#finishing) return;
    this.#unsaved = false;
    this.state.textContent = "Saving…";
    const name = this.#keptAs || this.name || UNNAMED;
    this.#saving = api.keepDraft(this.photo.id, name, this.#version, this.mask.runs());
    try {
      ({ version: this.#version } = await this.#saving);
      this.#keptAs = name;
      this.state.textContent = "Draft kept";
      this.discarding.hidden = false;
    } catch (error) {
      this.state.textContent = "Not saved";
      if (error.status === 409) this.#conflict(name);
      else notice(error.message, { wrong: true, actions: [["Try again", () => { this.#unsaved = true; this.#keep(); }]] });
      this.#saving = null;
      return;
    }
    this.#saving = null;
    if (this.#unsaved) await this.#keep();
  }

  #conflict(name) {
    const settle = async (mine) => {
      const theirs = await attempt(() => api.mask(this.photo.id, name, "draft"));
      this.#version = theirs?.version ?? "";
      if (mine || !theirs) {
        this.#unsaved = true;
        await this.#keep();
        return;
      }
      this.surface.drawMask(this.mask.replace(Mask.fromRuns(this.photo.width, this.photo.height, theirs.runs).pixels));
      const step = this.mask.settle();
      if (step) this.#history.push(step);
      this.#showHistory();
      this.state.textContent = "Draft kept";
    };
    notice("Another window drew on this photo too", { wrong: true, actions: [["Take theirs", () => settle(false)], ["Keep mine", () => settle(true)]] });
  }

  #strokeRuns(value) {
    const strokes = this.strokes.filter((stroke) => stroke.value === value);
    if (!strokes.length) return null;
    const marks = new Mask(this.photo.width, this.photo.height);
    for (const { x0, y0, x1, y1, radius } of strokes) marks.line(x0, y0, x1, y1, radius, 1);
    return [...encodeRuns(marks.pixels)];
  }

  async #save() {
    if (this.saving.disabled) {
      notice(this.name ? "Mark the object first" : "Say what it is first: type the name of its class");
      if (!this.name) this.naming.focus();
      return;
    }
    await this.#finish(() => api.setShot(this.photo.id, this.name, this.mask.runs()));
  }

  async #discard() {
    await this.#finish(async () => {});
  }

  async #tag() {
    if (this.name) await this.#finish(() => api.setTag(this.photo.id, this.name));
    else notice("Say what it is first: type the name of its class");
  }

  async #none() {
    await this.#finish(() => api.setNegative(this.photo.id, true));
  }

  async #finish(action) {
    this.#finishing = true; // no draft is begun that would come after the mask itself
    await this.#saving?.catch(() => {});
    const done = await attempt(async () => {
      await action();
      if (this.#keptAs) await api.dropDraft(this.photo.id, this.#keptAs);
      return true;
    });
    this.#finishing = false;
    if (!done) {
      this.#keep();
      return;
    }
    this.#unsaved = false;
    this.element.close();
    await attempt(() => store.refresh());
  }

  async #import(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    const runs = await attempt(() => api.annotation(this.photo.id, this.name || UNNAMED, file));
    if (!runs) return;
    this.surface.drawMask(this.mask.replace(Mask.fromRuns(this.photo.width, this.photo.height, runs).pixels));
    this.settle();
  }
}
