// Short messages at the edge of the page, read out by screen readers.

import { h } from "./dom.js";

const SECONDS = 7;
const SECONDS_OF_TROUBLE = 30;

/** Show a sentence for a while; `actions` are [label, function] pairs. */
export function notice(sentence, { wrong = false, actions = [] } = {}) {
  const text = sentence.charAt(0).toUpperCase() + sentence.slice(1);
  const buttons = actions.map(([label, act]) => h("button", { type: "button", onclick: () => { act(); item.remove(); } }, label));
  const close = h("button", { type: "button", class: "quiet", ariaLabel: "Dismiss", onclick: () => item.remove() }, "×");
  const item = h("div", { class: wrong ? "notice wrong" : "notice" }, h("span", {}, text), ...buttons, close);
  const home = [...document.querySelectorAll("dialog[open]")].at(-1) ?? document.body;
  let list = home.querySelector(":scope > .notices");
  if (!list) home.append((list = h("div", { class: "notices", role: "status", ariaLive: "polite" })));
  list.append(item);
  setTimeout(() => item.remove(), 1000 * (wrong ? SECONDS_OF_TROUBLE : SECONDS));
}

/** Run something; what goes wrong is told in the server's own sentence. Returns undefined then. */
export async function attempt(action) {
  try {
    return await action();
  } catch (error) {
    notice(error.message, { wrong: true });
    return undefined;
  }
}
