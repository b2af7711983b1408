// Photos come in: dropped, chosen, pasted, picked from a folder, or the demo's.

import { api, links } from "./api.js";
import { dialog, h } from "./dom.js";
import { attempt, notice } from "./notices.js";
import { store } from "./store.js";

/** How many photos are on their way at once. */
const AT_ONCE = 3;
/** How many reasons are told in full when files are refused, and how many names with each. */
const REASONS = 4;
const NAMED = 8;
/** What annotation tools write, and masks that lie beside their photos. */
const ANNOTATIONS = /\.(json|xml)$/i;
const MASKS = /^(.+?)(\.[a-z0-9]+)?[-_. ]mask\.png$/i;
/** What a mask is kept under until its class has a name. */
export const UNNAMED = "unnamed";

export function startIntake({ input, add, pick, dropping }) {
  add.addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    upload([...input.files]);
    input.value = "";
  });
  pick.addEventListener("click", openFolder);
  store.on("workspace", () => {
    pick.hidden = !store.workspace.pickable.length;
  });
  let inside = 0;
  const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
  addEventListener("dragenter", (event) => {
    if (carriesFiles(event)) dropping.hidden = ++inside === 0;
  });
  addEventListener("dragleave", () => {
    inside = Math.max(0, inside - 1);
    dropping.hidden = inside === 0;
  });
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    inside = 0;
    dropping.hidden = true;
    upload([...event.dataTransfer.files]);
  });
  addEventListener("paste", (event) => upload([...event.clipboardData.files]));
}

/** Send photos, and then what is marked in them; each file that the server does not take is named with its reason. */
export async function upload(files) {
  if (!files.length) return;
  const annotations = files.filter(({ name }) => ANNOTATIONS.test(name));
  const masks = files.filter(({ name }) => MASKS.test(name));
  const waiting = files.filter((file) => !annotations.includes(file) && !masks.includes(file));
  const refused = [];
  const send = async () => {
    while (waiting.length) {
      const file = waiting.shift();
      try {
        await api.upload(file);
      } catch (error) {
        refused.push({ name: file.name, sentence: error.message });
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, send));
  await attempt(() => store.refresh());
  for (const file of annotations) {
    const taken = await attempt(() => api.annotations(file));
    if (taken) notice(`${taken.shots} example${taken.shots === 1 ? "" : "s"} from ${file.name}`);
    for (const sentence of taken?.left_out ?? []) notice(sentence, { wrong: true });
  }
  for (const file of masks) await attempt(() => takeMask(file));
  tellRefused(refused);
  await attempt(() => store.refresh());
}

/** Why files were not taken: a sentence for each reason, with the names of all that it holds for. */
function tellRefused(refused) {
  const reasons = new Map();
  for (const one of refused) {
    const reason = one.sentence.replaceAll(one.name, "");
    reasons.set(reason, [...(reasons.get(reason) ?? []), one]);
  }
  const named = (files) => files.slice(0, NAMED).map(({ name }) => name).join(", ") + (files.length > NAMED ? ` and ${files.length - NAMED} more` : "");
  const groups = [...reasons.values()];
  for (const [first, ...others] of groups.slice(0, REASONS)) {
    notice(others.length ? `${first.sentence}. The same with ${named(others)}` : first.sentence, { wrong: true });
  }
  const rest = groups.slice(REASONS).flat();
  if (rest.length) notice(`These could not be taken either: ${named(rest)}`, { wrong: true });
}

/** A mask without a class becomes a draft of its photo: the editor asks what it is. */
async function takeMask(file) {
  const stem = MASKS.exec(file.name)[1].toLowerCase();
  const photo = store.workspace.photos.find(({ name }) => name.replace(/\.[^.]+$/, "").toLowerCase() === stem);
  if (!photo) throw new Error(`there is no photo that '${file.name}' is the mask of; add that first`);
  const runs = await api.annotation(photo.id, UNNAMED, file);
  await api.keepDraft(photo.id, UNNAMED, "", runs);
}

export async function addDemo() {
  await attempt(() => api.demo());
  await attempt(() => store.refresh());
}

function openFolder() {
  const { pickable } = store.workspace;
  const chosen = new Set();
  const add = h("button", { type: "button", class: "primary", disabled: true, onclick: () => take([...chosen]) }, "Add");
  const show = () => {
    add.disabled = !chosen.size;
    add.textContent = chosen.size ? `Add ${chosen.size}` : "Add";
  };
  const take = async (ids) => {
    element.close();
    await attempt(() => api.pick(ids));
    await attempt(() => store.refresh());
  };
  const items = pickable.map(({ id, name }) =>
    h(
      "label",
      { class: "choice" },
      h("input", { type: "checkbox", onchange: (event) => { chosen[event.target.checked ? "add" : "delete"](id); show(); } }),
      h("img", { src: links.view(id, 320), alt: "", loading: "lazy" }),
      h("span", {}, name),
    ));
  const element = dialog(
    { class: "sheet", ariaLabel: "Photos of the folder" },
    h("header", {}, h("h2", {}, "Photos of the folder")),
    h("div", { class: "choices" }, items),
    h(
      "footer",
      {},
      h("button", { type: "button", class: "quiet", onclick: () => element.close() }, "Cancel"),
      h("button", { type: "button", onclick: () => take(pickable.map(({ id }) => id)) }, `Add all ${pickable.length}`),
      add,
    ),
  );
}
