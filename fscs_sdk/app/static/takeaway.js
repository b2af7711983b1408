// Take the result along: supports, answers, and the same question for the terminal and for Python.

import { api } from "./api.js";
import { dialog, h, icon } from "./dom.js";
import { attempt, notice } from "./notices.js";
import { store } from "./store.js";

export function openTakeaway() {
  const { formats, photos } = store.workspace;
  const chosen = new Set(["mask"]);
  const shell = h("code");
  const python = h("code");
  const progress = h("progress", { hidden: true, ariaLabel: "Answers written" });
  const commands = async () => {
    const found = chosen.size ? await attempt(() => api.commands([...chosen])) : null;
    if (found) {
      shell.textContent = found.shell;
      python.textContent = found.python;
    }
    answers.disabled = !chosen.size || !photos.length;
  };
  const answers = h("button", { type: "button", class: "primary", onclick: (event) => save(event.target, `/take/answers.zip?formats=${[...chosen]}`, "answers.zip") }, "Answers as ZIP");
  const boxes = formats.map(({ name, contents }) =>
    h(
      "label",
      { class: "format" },
      h("input", { type: "checkbox", checked: chosen.has(name), onchange: (event) => { chosen[event.target.checked ? "add" : "delete"](name); commands(); } }),
      h("span", {}, h("strong", {}, name), ` ${contents}`),
    ));
  const copy = (code) => h("button", { type: "button", class: "quiet small", onclick: () => navigator.clipboard.writeText(code.textContent).then(() => notice("Copied")) }, "Copy");
  const told = (event) => {
    progress.hidden = false;
    progress.max = Math.max(1, event.detail.total);
    progress.value = event.detail.done;
  };
  store.addEventListener("export", told);
  const element = dialog(
    { class: "sheet", ariaLabel: "Take along" },
    h("header", {}, h("h2", {}, "Take along"), h("button", { type: "button", class: "quiet", ariaLabel: "Close", onclick: () => element.close() }, icon("close"))),
    h(
      "section",
      {},
      h("h3", {}, "Examples"),
      h("p", {}, "The marked photos as a folder that every command reads, or encoded once, in one file."),
      h("div", { class: "buttons" },
        h("button", { type: "button", onclick: (event) => save(event.target, "/take/supports.zip", "supports.zip") }, "Folder as ZIP"),
        h("button", { type: "button", onclick: (event) => save(event.target, "/take/supports.safetensors", "supports.safetensors") }, "One .safetensors file")),
    ),
    h("section", {}, h("h3", {}, "Answers"), h("div", { class: "formats" }, boxes), h("div", { class: "buttons" }, answers, progress)),
    h("section", {}, h("h3", {}, "The same in the terminal", copy(shell)), h("pre", { tabIndex: 0 }, shell)),
    h("section", {}, h("h3", {}, "The same in Python", copy(python)), h("pre", { tabIndex: 0 }, python)),
  );
  element.addEventListener("close", () => store.removeEventListener("export", told));
  commands();

  async function save(button, path, name) {
    button.disabled = true;
    const blob = await attempt(() => api.download(path));
    button.disabled = false;
    progress.hidden = true;
    if (!blob) return;
    const link = h("a", { href: URL.createObjectURL(blob), download: name });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }
}
