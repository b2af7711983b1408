// A class and its presence in a photo, as a chip.

import { h } from "./dom.js";
import { store } from "./store.js";

/** For every class of an answer: name, score, threshold in force, and whether the score reaches it (eq. 2). */
export function presences(answer) {
  return answer.names.map((name, index) => {
    const cut = store.cut(name, answer.thresholds[index]);
    const moved = cut !== answer.thresholds[index];
    const score = answer.scores[index];
    return { name, score, cut, present: moved ? score >= cut : answer.present[index] };
  });
}

/** Whether the sliders say something else about a photo than its answer did. */
export function isMoved(answer) {
  return presences(answer).some(({ present }, index) => present !== answer.present[index]);
}

export function chips(answer) {
  const list = presences(answer).sort((one, other) => other.present - one.present || other.score - one.score);
  return h("ul", { class: "chips" }, list.map(chip));
}

function chip({ name, score, present }) {
  return h(
    "li",
    { class: present ? "chip present" : "chip absent", style: { "--color": store.color(name) } },
    h("span", { class: "name" }, present ? name : `no ${name}`),
    h("span", { class: "score" }, score.toFixed(2)),
  );
}
