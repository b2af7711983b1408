// Every key, in one place.

import { dialog, h, icon } from "./dom.js";
import { TOOLS } from "./tools.js";

const KEYS = [
  ["Everywhere", [["?", "this page"], ["A", "add photos"], ["T", "take along"], ["Esc", "close"]]],
  ["Photos", [["Tab, arrows", "go from photo to photo"], ["Enter", "open"]]],
  ["An answer", [
    ["← →", "photo before, next photo"], ["R", "right"], ["N", "not there: none of the classes is in it"], ["M", "mend the outline"],
    ["A, O", "areas, photo only"], ["1 … 9", "the map of a class"],
  ]],
  ["Marking", [
    ...TOOLS.map(({ key, label, hint }) => [key.toUpperCase(), `${label}: ${hint.charAt(0).toLowerCase()}${hint.slice(1)}`]),
    ["Arrows, Shift", "move the pointer, faster"], ["Space", "press the pointer, and release it"], ["Enter", "close a polygon"],
    ["[ ]", "smaller, larger brush; also the wheel"], ["+ − 0", "zoom in, out, whole photo; also Ctrl and the wheel, or two fingers"],
    ["Z, Shift+Z", "undo, redo"], ["Ctrl+S", "save the example"],
  ]],
];

export function openHelp() {
  const element = dialog(
    { class: "sheet help", ariaLabel: "Keyboard and help" },
    h("header", {}, h("h2", {}, "Keyboard"), h("button", { type: "button", class: "quiet", ariaLabel: "Close", onclick: () => element.close() }, icon("close"))),
    h("div", { class: "keys" }, KEYS.map(([title, keys]) =>
      h("section", {}, h("h3", {}, title), h("dl", {}, keys.map(([key, words]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, words))))))),
    h("p", {}, "On a touch screen one finger or a pen draws, two fingers move and zoom. Everything is saved as it happens."),
  );
}
