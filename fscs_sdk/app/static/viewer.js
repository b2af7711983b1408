// One photo's answer, large: outline or heat, thresholds, the examples beside it, and what to say about it.

import { api, links } from "./api.js";
import { isMoved, presences } from "./chips.js";
import { dialog, h, icon } from "./dom.js";
import { openEditor } from "./editor.js";
import { loadMaps, paintAreas, paintHeat } from "./maps.js";
import { attempt, notice } from "./notices.js";
import { store } from "./store.js";

/** Open a photo; `ids`: those that the arrow keys go through. */
export function openViewer(id, ids) {
  new Viewer(ids).open(id);
}

class Viewer {
  /** "areas", "photo", or the name of the class whose map is shown. */
  #layer = "areas";

  constructor(ids) {
    this.ids = ids;
  }

  open(id) {
    this.id = id;
    this.picture = h("img", { class: "photo", alt: "", onload: () => this.pile.style.setProperty("--ratio", this.picture.naturalWidth / this.picture.naturalHeight) });
    this.exact = h("img", { class: "layer", alt: "" });
    this.canvas = h("canvas", { class: "layer" });
    this.pile = h("div", { class: "pile" }, this.picture, this.exact, this.canvas);
    this.stage = h("div", { class: "stage" }, this.pile);
    this.title = h("h2", {});
    this.side = h("div", { class: "side" });
    const step = (by, name, label) => h("button", { type: "button", class: "quiet", ariaLabel: label, title: label, onclick: () => this.step(by) }, icon(name));
    this.element = dialog(
      { class: "viewer" },
      h("header", {}, h("button", { type: "button", class: "quiet", ariaLabel: "Close", title: "Close (Esc)", onclick: () => this.element.close() }, icon("close")), this.title, h("button", { type: "button", class: "quiet small", title: "Ask this photo no more", onclick: () => this.#remove() }, "Remove photo"), step(-1, "left", "Photo before"), step(1, "right", "Next photo")),
      this.stage,
      this.side,
    );
    this.element.addEventListener("keydown", (event) => this.#key(event));
    const listening = new AbortController();
    const react = (event) => {
      if (event.type !== "answer" || event.detail.id === this.id) this.draw(event.type === "cuts");
    };
    for (const kind of ["workspace", "answer", "cuts"]) store.addEventListener(kind, react, { signal: listening.signal });
    this.element.addEventListener("close", () => {
      listening.abort();
      document.querySelector(`.tile[data-id="${this.id}"] .picture`)?.focus();
    });
    this.#show();
  }

  step(by) {
    const at = this.ids.indexOf(this.id);
    const next = this.ids[at + by];
    if (next === undefined) {
      notice(by > 0 ? "That was the last photo" : "This is the first photo");
      return;
    }
    this.id = next;
    this.#show();
  }

  #show() {
    this.picture.src = links.view(this.id, 2048);
    this.draw();
    attempt(() => api.describe(this.id));
  }

  /** `quick`: only what a slider changes; its own elements stay under the pointer. */
  draw(quick = false) {
    const photo = store.photo(this.id);
    if (!photo) {
      this.element.close();
      return;
    }
    const { answer } = photo;
    this.element.setAttribute("aria-label", photo.name);
    this.title.textContent = photo.name;
    this.picture.alt = photo.name;
    this.element.classList.toggle("waiting", !store.isFresh(answer));
    this.#drawLayer(photo);
    if (quick) this.#drawSwitches(photo);
    else this.#drawSide(photo);
  }

  #drawLayer(photo) {
    const { answer } = photo;
    const there = answer && !answer.error;
    const exact = there && this.#layer === "areas" && !isMoved(answer);
    const heat = there ? answer.names.indexOf(this.#layer) : -1;
    this.exact.hidden = !exact;
    if (exact) this.exact.src = links.areas(photo.id, 1024, `${answer.state}${answer.seconds}`);
    this.canvas.hidden = !there || exact || this.#layer === "photo";
    if (!this.canvas.hidden) {
      loadMaps(photo)
        .then((maps) => (heat >= 0 ? paintHeat(this.canvas, maps, heat) : paintAreas(this.canvas, maps, answer)))
        .catch(() => {});
    }
  }

  #drawSide(photo) {
    const { answer } = photo;
    if (!answer || answer.error) {
      this.side.replaceChildren(h("p", { class: answer ? "failed" : "pending" }, answer?.error ?? "This photo is asked next."), this.#verdicts(photo));
      return;
    }
    const layers = [["areas", "Areas"], ["photo", "Photo only"], ...answer.names.map((name) => [name, `Map of ${name}`])];
    this.rows = presences(answer).map(({ name, cut }, index) => {
      const chip = h("span", { class: "chip" });
      const range = h("input", {
        type: "range", min: 0, max: 1, step: 0.01, value: cut, ariaLabel: `Threshold of ${name}`,
        onpointerdown: () => loadMaps(photo).catch(() => {}),
        oninput: () => store.setCut(name, Number(range.value)),
        onchange: () => attempt(() => api.changeClass(name, { threshold: Number(range.value) })),
      });
      const score = answer.scores[index];
      const scale = h("div", { class: "scale", style: { "--score": score, "--color": store.color(name) } }, range);
      return { name, chip, element: h("div", { class: "row" }, chip, scale), output: h("output") };
    });
    for (const row of this.rows) row.element.append(row.output);
    this.side.replaceChildren(
      h("section", { class: "answers" }, h("h3", {}, "Is it there?"), this.rows.map(({ element }) => element)),
      h(
        "fieldset",
        { class: "layers" },
        h("legend", {}, "Show"),
        layers.map(([name, label]) =>
          h("label", {}, h("input", { type: "radio", name: "layer", value: name, checked: name === this.#layer, onchange: () => this.#choose(name) }), h("span", {}, label))),
      ),
      this.#verdicts(photo),
      this.#examples(),
    );
    this.#drawSwitches(photo);
  }

  #drawSwitches(photo) {
    if (!photo.answer || photo.answer.error) return;
    presences(photo.answer).forEach(({ name, score, cut, present }, index) => {
      const row = this.rows?.[index];
      if (!row) return;
      row.chip.className = present ? "chip present" : "chip absent";
      row.chip.style.setProperty("--color", store.color(name));
      row.chip.replaceChildren(h("span", { class: "name" }, present ? name : `no ${name}`), h("span", { class: "score" }, score.toFixed(2)));
      row.output.textContent = `from ${cut.toFixed(2)}`;
    });
  }

  #verdicts(photo) {
    const { answer } = photo;
    const there = answer && !answer.error;
    const found = there ? presences(answer).filter(({ present }) => present).map(({ name }) => name) : [];
    const names = there ? answer.names : store.workspace.classes.map(({ name }) => name);
    const mend = (name) => h("button", { type: "button", onclick: () => this.#mend(name) }, h("span", { class: "dot", style: { "--color": store.color(name) } }), found.includes(name) ? `Mend ${name}` : `Mark ${name}`);
    return h(
      "section",
      { class: "verdicts" },
      h("h3", {}, "Correct it"),
      h(
        "div",
        { class: "buttons" },
        there ? h("button", { type: "button", class: photo.confirmed ? "chosen" : "", ariaPressed: String(Boolean(photo.confirmed)), ariaKeyshortcuts: "r", title: "The answer is right (R)", onclick: () => this.#right(photo) }, icon("check"), "Right") : null,
        h("button", { type: "button", class: photo.negative ? "chosen" : "", ariaPressed: String(photo.negative), ariaKeyshortcuts: "n", title: "None of the classes is in this photo (N)", onclick: () => this.#none(photo) }, icon("none"), "Not there"),
        names.map(mend),
        h("button", { type: "button", class: "quiet", onclick: () => this.#mend("") }, "Another class…"),
      ),
    );
  }

  #examples() {
    return h(
      "section",
      { class: "beside" },
      h("h3", {}, "Asked with"),
      store.workspace.classes.map(({ name, color, shots }) =>
        h(
          "figure",
          { style: { "--color": color } },
          h("figcaption", {}, name),
          h("div", { class: "strip" }, shots.slice(0, 6).map((shot) =>
            h("span", { class: "shot" }, h("img", { src: links.view(shot.id, 320), alt: shot.name }), shot.mask ? h("img", { class: "areas", src: links.areas(shot.id, 320, shot.mask), alt: "" }) : null))),
        )),
    );
  }

  async #remove() {
    const { id } = this;
    const at = this.ids.indexOf(id);
    this.ids = this.ids.filter((other) => other !== id);
    const removed = await attempt(() => api.remove(id));
    if (!removed) return;
    const next = this.ids[Math.min(at, this.ids.length - 1)];
    if (next === undefined) this.element.close();
    else {
      this.id = next;
      this.#show();
    }
    await attempt(() => store.refresh());
  }

  #choose(layer) {
    this.#layer = layer;
    this.draw(true);
  }

  async #right(photo) {
    await attempt(() => api.confirm(photo.id, !photo.confirmed));
    if (!photo.confirmed) this.step(1);
  }

  async #none(photo) {
    await attempt(() => api.setNegative(photo.id, !photo.negative));
  }

  #mend(name) {
    const { id } = this;
    this.element.close();
    openEditor(id, { name, propose: Boolean(name) });
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const photo = store.photo(this.id);
    const found = photo.answer?.names?.filter((name, index) => photo.answer.present[index]) ?? [];
    const range = event.target.type === "range" || event.target.type === "radio";
    if (event.key === "ArrowLeft" && !range) this.step(-1);
    else if (event.key === "ArrowRight" && !range) this.step(1);
    else if (event.key === "r") this.#right(photo);
    else if (event.key === "n") this.#none(photo);
    else if (event.key === "m") this.#mend(found[0] ?? store.workspace.classes[0]?.name ?? "");
    else if (event.key === "a") this.#pick("areas");
    else if (event.key === "o") this.#pick("photo");
    else if (/^[1-9]$/.test(event.key) && photo.answer?.names?.[event.key - 1]) this.#pick(photo.answer.names[event.key - 1]);
    else return;
    event.preventDefault();
  }

  #pick(layer) {
    const radio = [...this.side.querySelectorAll("input[type=radio]")].find(({ value }) => value === layer);
    if (radio) radio.checked = true;
    this.#choose(layer);
  }
}
