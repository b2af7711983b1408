// The column of classes: their examples, their thresholds, and the photos with none of them.

import { api, links } from "./api.js";
import { h, icon } from "./dom.js";
import { openEditor } from "./editor.js";
import { loadMaps } from "./maps.js";
import { attempt, notice } from "./notices.js";
import { store } from "./store.js";

export function startClasses(home) {
  const draw = () => {
    if (home.contains(document.activeElement) && document.activeElement.type === "range" && store.cuts.size) return;
    home.replaceChildren(...panel().filter(Boolean));
  };
  store.on("workspace", draw);
}

function panel() {
  const { classes, negatives, remarks } = store.workspace;
  if (!classes.length && !negatives.length) return [];
  return [
    h("h2", {}, "Classes"),
    ...classes.map(card),
    none(negatives),
    remarks.length ? h("div", { class: "advice" }, remarks.map((remark) => h("p", {}, sentence(remark)))) : null,
    setting("calibrate", "Calibrate from the examples", "Learn each class's threshold from its own examples and from the photos with none of them"),
    setting("edges", "Areas follow the photo's edges", "Move the outlines of areas to edges in the photo; presence stays the same"),
  ];
}

function setting(name, label, title) {
  const change = (event) => attempt(() => api.changeSettings({ [name]: event.target.checked }));
  return h("label", { class: "switch", title }, h("input", { type: "checkbox", role: "switch", checked: store.workspace[name], onchange: change }), h("span", {}, label));
}

function card(item) {
  const { name, color, shots } = item;
  const marked = shots.filter((shot) => shot.mask).length;
  const count = `${marked} example${marked === 1 ? "" : "s"}${shots.length > marked ? `, ${shots.length - marked} without outline` : ""}`;
  return h(
    "article",
    { class: "class", style: { "--color": color } },
    h(
      "header",
      {},
      h("span", { class: "dot" }),
      h("h3", {}, name),
      h("span", { class: "count" }, count),
      h("button", { type: "button", class: "quiet small", title: `Rename ${name}`, ariaLabel: `Rename ${name}`, onclick: () => rename(name) }, "Rename"),
    ),
    h("ul", { class: "strip", ariaLabel: `Examples of ${name}` }, shots.map((shot) => example(shot, name))),
    threshold(item),
    advice(item),
  );
}

/** What the examples say of each other: suspects, how far answers can be trusted, and what would help most. */
function advice({ examined, shots }) {
  if (!examined) return null;
  const suspects = shots.filter(({ suspect }) => suspect);
  const asked = examined.positives + examined.foreign + examined.negatives; // of none nothing is known
  const [low, high] = examined.interval.map((share) => Math.round(100 * share));
  return h(
    "div",
    { class: "advice" },
    suspects.map(({ name, suspect }) => h("p", { class: "wrong" }, h("strong", {}, name), ` ${suspect}`)),
    asked > 0 && h("p", { title: `95 % between ${low} and ${high} %, from ${examined.positives} photos with it, ${examined.foreign} of other classes and ${examined.negatives} with none` }, `About ${Math.round(100 * examined.right)} % of answers right (${low} to ${high}).`),
    examined.scale === "tiles" && h("p", { title: "It is small in its examples, which find each other better so" }, "Looked for in tiles of each photo: about five times the time."),
    h("p", {}, sentence(examined.advice)),
  );
}

const sentence = (text) => (text ? `${text.charAt(0).toUpperCase()}${text.slice(1)}${text.endsWith(".") ? "" : "."}` : "");

function example(shot, name) {
  const open = () => openEditor(shot.id, { name });
  return h(
    "li",
    {},
    h(
      "button",
      { type: "button", class: "shot", ariaLabel: `Change ${shot.name}, example of ${name}${shot.suspect ? `; suspect: ${shot.suspect}` : ""}`, title: shot.name, onclick: open },
      h("img", { src: links.view(shot.id, 320), alt: "", loading: "lazy" }),
      shot.mask ? h("img", { class: "areas", src: links.areas(shot.id, 320, shot.mask), alt: "" }) : h("span", { class: "tag" }, "no outline"),
      shot.suspect ? h("span", { class: "suspect", role: "img", ariaLabel: `Suspect: ${shot.suspect}` }, "!") : null,
    ),
    h("button", { type: "button", class: "remove", ariaLabel: `Remove ${shot.name} from ${name}`, title: "Remove", onclick: () => attempt(() => api.removeShot(shot.id, name)) }, "×"),
  );
}

function threshold({ name, threshold: set, own_threshold: own }) {
  if (set === null || set === undefined) return null;
  const value = store.cut(name, set);
  const output = h("output", {}, value.toFixed(2));
  const reset = h("button", { type: "button", class: "quiet small", hidden: own === null || Math.abs(value - own) < 0.005, onclick: () => save(null) }, "Reset");
  const save = (chosen) => attempt(() => api.changeClass(name, { threshold: chosen }));
  const input = h("input", {
    type: "range", min: 0, max: 1, step: 0.01, value, ariaLabel: `Threshold of ${name}: the score from which it is present`,
    onpointerdown: prefetch,
    onfocus: prefetch,
    oninput: () => {
      output.textContent = Number(input.value).toFixed(2);
      store.setCut(name, Number(input.value));
    },
    onchange: () => save(Number(input.value)),
  });
  return h("div", { class: "threshold" }, h("span", {}, "Present from"), input, output, reset);
}

/** Fetch the maps before the slider moves, so that it needs no request. */
function prefetch() {
  for (const photo of store.workspace.photos) {
    if (photo.answer && !photo.answer.error) loadMaps(photo).catch(() => {});
  }
}

function none(negatives) {
  if (!negatives.length) return null;
  return h(
    "article",
    { class: "class none" },
    h("header", {}, icon("none"), h("h3", {}, "None of these"), h("span", { class: "count" }, `${negatives.length} photo${negatives.length === 1 ? "" : "s"}`)),
    h(
      "ul",
      { class: "strip", ariaLabel: "Photos with none of the classes" },
      negatives.map(({ id, name }) =>
        h(
          "li",
          {},
          h("span", { class: "shot" }, h("img", { src: links.view(id, 320), alt: name, loading: "lazy" })),
          h("button", { type: "button", class: "remove", ariaLabel: `Remove ${name} from these`, title: "Remove", onclick: () => attempt(() => api.setNegative(id, false)) }, "×"),
        )),
    ),
  );
}

function rename(name) {
  const given = prompt(`Another name for ${name}`, name);
  if (given && given.trim() !== name) attempt(() => api.changeClass(name, { rename: given })).then((done) => done && notice(`Renamed to ${given.trim()}`));
}
