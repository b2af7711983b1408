// What to do next, as long as there is something to say.

import { h, icon } from "./dom.js";
import { addDemo } from "./intake.js";
import { store } from "./store.js";

export function startGuide(home, input) {
  store.on("workspace", () => home.replaceChildren(...[next(input)].filter(Boolean)));
}

function next(input) {
  const { photos, classes } = store.workspace;
  if (!photos.length && !classes.length) return welcome(input);
  if (!photos.length) return hint("Now ask", "Drop photos anywhere on this page. Each is asked as it comes.");
  if (!classes.length) return hint("Mark one example", "Open a photo that shows what you are looking for, draw a box around it, and give it a name. All other photos are then asked at once.");
  return null;
}

function hint(title, words) {
  return h("div", { class: "hint-card" }, h("h2", {}, title), h("p", {}, words));
}

function welcome(input) {
  const steps = [
    ["Drop photos", "As many as you like. They stay on this machine."],
    ["Mark one", "Draw a box around the thing; its outline is suggested."],
    ["See where it is", "Every photo is asked: is it there, and where? Correct what is wrong, and take the result along."],
  ];
  return h(
    "div",
    { class: "welcome" },
    h("h2", {}, "Is it there, and where?"),
    h("p", { class: "lead" }, "Show what you are looking for in one photo. This page finds it in all the others."),
    h("ol", { class: "steps" }, steps.map(([title, words]) => h("li", {}, h("strong", {}, title), h("span", {}, words)))),
    h(
      "div",
      { class: "buttons" },
      h("button", { type: "button", class: "primary large", onclick: () => input.click() }, icon("photos"), "Choose photos"),
      h("button", { type: "button", class: "large", onclick: addDemo }, "Try it with demo photos"),
    ),
    h("p", { class: "aside" }, "…or drop them anywhere on this page."),
  );
}
