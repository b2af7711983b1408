// Elements from a line of code. Texts become text nodes, never HTML.

const SVG = "http://www.w3.org/2000/svg";

/** h("button", {class: "primary", onclick: f, ariaLabel: "Save"}, "Save") */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (key === "class") element.className = value;
    else if (key === "style") for (const [name, text] of Object.entries(value)) element.style.setProperty(name, text);
    else if (key === "data") Object.assign(element.dataset, value);
    else if (key in element && typeof element[key] !== "string" && key !== "list") element[key] = value;
    else element.setAttribute(key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`), value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

const PATHS = {
  brush: "M14.500 3.500l6 6-8.500 8.500-4-.5-.5-4zM7.500 14.500c-3 0-3.500 3-5 4.500 3 1.500 7.500 1 7.500-2",
  eraser: "M8 20h12M4.500 15.500l9-10 6 5.500-8 9H8z",
  polygon: "M5 8l8-4 7 7-4 9-11-3zM5 8h.01M13 4h.01M20 11h.01M16 20h.01M5 17h.01",
  box: "M4 5h16v14H4z",
  fill: "M10 4l9 9-7.500 7.500L4 13zM4 13h15M20.500 17c1.200 1.600 1.200 3 0 3s-1.200-1.400 0-3",
  suggest: "M12 3l1.800 5.200L19 10l-5.200 1.800L12 17l-1.800-5.200L5 10l5.200-1.800zM19 16l.8 2.200L22 19l-2.200.8L19 22l-.8-2.200L16 19l2.200-.8z",
  pan: "M12 3v18M3 12h18M9 6l3-3 3 3M9 18l3 3 3-3M6 9l-3 3 3 3M18 9l3 3-3 3",
  undo: "M8 5L4 9l4 4M4 9h9a6 6 0 010 12h-3",
  redo: "M16 5l4 4-4 4M20 9h-9a6 6 0 000 12h3",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  close: "M5 5l14 14M19 5L5 19",
  check: "M4 12.500l5.500 5.500L20 7",
  none: "M12 3a9 9 0 100 18 9 9 0 000-18zM5.600 5.600l12.800 12.800",
  left: "M15 5l-7 7 7 7",
  right: "M9 5l7 7-7 7",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  photos: "M3 6h13v13H3zM7 3h14v13M3 16l4-4 3 3 2-2 4 4",
};

export function icon(name) {
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", "0 0 24 24");
  picture.setAttribute("class", "icon");
  picture.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", PATHS[name]);
  picture.append(path);
  return picture;
}

/** A modal dialog over the page that is gone once it is closed. */
export function dialog(properties, ...children) {
  const element = h("dialog", properties, ...children);
  element.addEventListener("close", () => element.remove());
  document.body.append(element);
  element.showModal();
  return element;
}

/** Whether a key press belongs to a text field rather than to a shortcut. */
export function isTyping(event) {
  const target = event.target;
  return target instanceof HTMLInputElement && ["text", "search", "number"].includes(target.type);
}
