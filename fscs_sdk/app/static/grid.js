// All photos as tiles, filtered and in order; a tile is drawn anew when its answer comes.

import { links } from "./api.js";
import { chips, isMoved, presences } from "./chips.js";
import { h, icon } from "./dom.js";
import { openEditor } from "./editor.js";
import { loadMaps, paintAreas } from "./maps.js";
import { store } from "./store.js";
import { openViewer } from "./viewer.js";

const FILTERS = [
  ["all", "All"],
  ["present", "Present"],
  ["absent", "Absent"],
  ["unsure", "Unsure first"],
  ["labelled", "Examples"],
];

const tiles = new Map();
let filter = "all";
let wanted = "";

export function startGrid(home, toolbar) {
  const draw = () => {
    drawToolbar(toolbar);
    drawGrid(home);
  };
  store.on("workspace", draw);
  store.on("answer", (photo) => {
    const tile = tiles.get(photo.id);
    if (tile) update(tile, photo);
    later(draw);
  });
  store.on("cuts", () => {
    for (const photo of store.workspace.photos) {
      const tile = tiles.get(photo.id);
      if (tile) update(tile, photo);
    }
    later(draw);
  });
  store.on("progress connection", () => drawProgress(toolbar.querySelector(".progress")));
  home.addEventListener("keydown", (event) => walk(event, home));
}

/** The photos that the filter leaves, in its order. */
export function shown() {
  const { photos } = store.workspace;
  const is = (photo, present) =>
    photo.answer && !photo.answer.error &&
    presences(photo.answer).some((one) => one.present && (!wanted || one.name === wanted)) === present;
  if (filter === "present") return photos.filter((photo) => is(photo, true));
  if (filter === "absent") return photos.filter((photo) => is(photo, false));
  if (filter === "labelled") return photos.filter((photo) => photo.labels.length || photo.negative || photo.drafts.length);
  if (filter === "unsure") {
    const open = (photo) => photo.answer && !photo.labels.length && !photo.negative && !photo.confirmed;
    return photos.filter(open).sort((one, other) => (other.answer.doubt ?? 0) - (one.answer.doubt ?? 0));
  }
  return photos;
}

let waiting = false;

function later(act) {
  if (waiting) return;
  waiting = true;
  setTimeout(() => {
    waiting = false;
    act();
  }, 150);
}

function drawToolbar(toolbar) {
  const { photos, classes } = store.workspace;
  toolbar.hidden = !photos.length;
  if (!toolbar.childElementCount) {
    const buttons = FILTERS.map(([name, label]) =>
      h("button", { type: "button", data: { name }, onclick: () => choose(name) }, label));
    const select = h("select", { ariaLabel: "Which class", onchange: () => { wanted = select.value; choose(filter); } });
    toolbar.append(
      h("div", { class: "filters", role: "group", ariaLabel: "Show" }, buttons),
      select,
      h("span", { class: "counted" }),
      h("div", { class: "progress" }),
    );
  }
  for (const button of toolbar.querySelectorAll(".filters button")) button.setAttribute("aria-pressed", String(button.dataset.name === filter));
  const select = toolbar.querySelector("select");
  select.hidden = classes.length < 2 || !["present", "absent"].includes(filter);
  if (!classes.some(({ name }) => name === wanted)) wanted = "";
  select.replaceChildren(h("option", { value: "" }, "any class"), ...classes.map(({ name }) => h("option", { value: name }, name)));
  select.value = wanted;
  const count = shown().length;
  toolbar.querySelector(".counted").textContent = count === photos.length ? `${count} photo${count === 1 ? "" : "s"}` : `${count} of ${photos.length}`;
  drawProgress(toolbar.querySelector(".progress"));
}

function choose(name) {
  filter = name;
  store.dispatchEvent(new CustomEvent("workspace"));
}

function drawProgress(home) {
  if (!home) return;
  const { progress } = store.workspace;
  if (!store.connected) {
    home.replaceChildren(h("span", { class: "lost", role: "status" }, "The server does not answer; trying again…"));
    return;
  }
  const left = progress.rate ? Math.ceil((progress.total - progress.done) / progress.rate) : 0;
  const time = left > 90 ? `${Math.round(left / 60)} min left` : left ? `${left} s left` : "";
  const act = async (run) => (await import("./api.js")).api.run(run);
  if (progress.running) {
    const words = progress.total ? [`${progress.done} of ${progress.total} asked`, progress.rate && `${progress.rate.toFixed(1)}/s`, time] : ["Looking at the examples"];
    if (progress.examining) words.splice(0, words.length, `Examining the examples: ${progress.done} of ${progress.total} pairs`);
    home.replaceChildren(
      h("progress", { max: Math.max(1, progress.total), value: progress.total ? progress.done : null, ariaLabel: "Photos asked" }),
      h("span", {}, words.filter(Boolean).join(" · ")),
      h("button", { type: "button", class: "quiet small", onclick: () => act(false) }, "Cancel"),
    );
  } else if (progress.cancelled) {
    home.replaceChildren(h("span", {}, "Cancelled"), h("button", { type: "button", class: "quiet small", onclick: () => act(true) }, "Go on"));
  } else home.replaceChildren();
}

function drawGrid(home) {
  const photos = shown();
  const ids = new Set(store.workspace.photos.map(({ id }) => id));
  for (const id of [...tiles.keys()]) if (!ids.has(id)) tiles.delete(id);
  const elements = photos.map((photo) => {
    if (!tiles.has(photo.id)) tiles.set(photo.id, make(photo));
    const tile = tiles.get(photo.id);
    update(tile, photo);
    return tile.element;
  });
  const same = elements.length === home.childElementCount && elements.every((element, index) => home.children[index] === element);
  if (same) return;
  const focused = document.activeElement;
  home.replaceChildren(...(elements.length ? elements : [empty()]));
  if (home.contains(focused)) focused.focus();
}

function empty() {
  const words = { present: "No photo shows it.", absent: "Something was found in every photo.", unsure: "Nothing left to decide.", labelled: "No photo is an example yet." };
  return h("li", { class: "empty" }, store.workspace.photos.length ? words[filter] ?? "" : "");
}

function make(photo) {
  const tile = { picture: h("img", { src: links.view(photo.id, 320), alt: "", loading: "lazy", decoding: "async" }), areas: h("img", { class: "areas", alt: "" }), canvas: h("canvas", { class: "areas", hidden: true }) };
  tile.badges = h("span", { class: "badges" });
  tile.caption = h("div", { class: "caption" });
  tile.button = h("button", { type: "button", class: "picture", onclick: () => open(photo.id) }, tile.picture, tile.areas, tile.canvas, tile.badges);
  tile.element = h("li", { class: "tile", data: { id: photo.id } }, tile.button, tile.caption);
  tile.drawn = "";
  return tile;
}

function open(id) {
  const { classes } = store.workspace;
  if (classes.length) openViewer(id, shown().map((photo) => photo.id));
  else openEditor(id);
}

function update(tile, photo) {
  const { answer } = photo;
  const moved = answer && !answer.error && isMoved(answer);
  const cuts = moved ? presences(answer).map(({ cut }) => cut).join() : "";
  const drawn = JSON.stringify([answer?.state, answer?.seconds, answer?.error, photo.labels, photo.negative, photo.drafts, photo.confirmed, cuts, store.isFresh(answer), store.workspace.problem]);
  if (drawn === tile.drawn) return;
  tile.drawn = drawn;
  const there = answer && !answer.error;
  tile.element.classList.toggle("waiting", Boolean(store.workspace.classes.length) && !store.isFresh(answer));
  tile.button.setAttribute("aria-label", described(photo));
  tile.areas.hidden = !there || moved || !answer.present.some(Boolean);
  if (!tile.areas.hidden) tile.areas.src = links.areas(photo.id, 320, `${answer.state}${answer.seconds}`);
  tile.canvas.hidden = !moved;
  if (moved) loadMaps(photo).then((maps) => paintAreas(tile.canvas, maps, answer)).catch(() => {});
  tile.badges.replaceChildren(...badges(photo));
  tile.caption.replaceChildren(h("span", { class: "file", title: photo.name }, photo.name), ...[there ? chips(answer) : answer?.error || store.workspace.classes.length ? h("span", { class: answer ? "failed" : "pending" }, answer?.error ?? "") : null].filter(Boolean));
}

function badges(photo) {
  const all = photo.labels.map((name) => h("span", { class: "badge", style: { "--color": store.color(name) } }, `example of ${name}`));
  if (photo.negative) all.push(h("span", { class: "badge" }, "none of these"));
  if (photo.drafts.length) all.push(h("span", { class: "badge draft" }, "draft"));
  if (photo.confirmed && photo.answer && !photo.answer.error) {
    const still = photo.answer.names.every((name, index) => photo.confirmed[name] === undefined || photo.confirmed[name] === photo.answer.present[index]);
    all.push(h("span", { class: still ? "badge right" : "badge wrong" }, still ? icon("check") : null, still ? "right" : "was right, has changed"));
  }
  return all;
}

function described(photo) {
  const { answer } = photo;
  if (!answer) return photo.name;
  if (answer.error) return `${photo.name}: ${answer.error}`;
  return `${photo.name}: ${presences(answer).map(({ name, present, score }) => `${present ? name : `no ${name}`}, score ${score.toFixed(2)}`).join("; ")}`;
}

/** Arrow keys go from tile to tile. */
function walk(event, home) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: "up", ArrowDown: "down", Home: "first", End: "last" };
  const step = steps[event.key];
  const buttons = [...home.querySelectorAll(".picture")];
  const at = buttons.indexOf(document.activeElement);
  if (step === undefined || at < 0) return;
  event.preventDefault();
  const row = getComputedStyle(home).gridTemplateColumns.split(" ").length;
  const to = { up: at - row, down: at + row, first: 0, last: buttons.length - 1 }[step] ?? at + step;
  buttons[Math.min(buttons.length - 1, Math.max(0, to))].focus();
}
