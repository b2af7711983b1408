// The page put together.

import { startClasses } from "./classes.js";
import { isTyping } from "./dom.js";
import { startGrid } from "./grid.js";
import { startGuide } from "./guide.js";
import { openHelp } from "./help.js";
import { startIntake } from "./intake.js";
import { attempt } from "./notices.js";
import { store } from "./store.js";
import { openTakeaway } from "./takeaway.js";

const at = (id) => document.getElementById(id);

startIntake({ input: at("files"), add: at("add"), pick: at("pick"), dropping: at("dropping") });
startClasses(at("classes"));
startGuide(at("guide"), at("files"));
startGrid(at("grid"), at("toolbar"));
at("take").addEventListener("click", openTakeaway);
at("help").addEventListener("click", openHelp);

store.on("workspace", () => {
  const { name, path, problem, photos, classes } = store.workspace;
  document.title = `${name} – fscs`;
  at("where").textContent = name;
  at("where").title = path;
  at("problem").hidden = !problem;
  at("problem").textContent = problem ?? "";
  at("take").disabled = !classes.length;
  document.body.classList.toggle("bare", !photos.length && !classes.length);
  document.body.classList.toggle("classless", !classes.length);
});

addEventListener("keydown", (event) => {
  if (isTyping(event) || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "?" && !document.querySelector("dialog.help")) openHelp();
  else if (document.querySelector("dialog[open]")) return;
  else if (event.key === "a") at("add").click();
  else if (event.key === "t" && !at("take").disabled) openTakeaway();
  else return;
  event.preventDefault();
});

attempt(() => store.start());
