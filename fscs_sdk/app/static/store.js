// What the page knows: the server's last word, and the thresholds under the user's hand.

import { api, listen } from "./api.js";

class Store extends EventTarget {
  /** The workspace as `/api/workspace` tells it, or null before the first answer. */
  workspace = null;
  connected = false;
  /** Class -> the threshold of its slider, while it differs from the one that answers were made with. */
  cuts = new Map();
  #fetching = null;
  #again = false;

  start() {
    listen((event) => this.#hear(event), () => this.#connect(true), () => this.#connect(false));
    return this.refresh();
  }

  /** Ask for everything; calls in the meantime lead to one more request, not to many. */
  refresh() {
    if (this.#fetching) {
      this.#again = true;
      return this.#fetching;
    }
    this.#fetching = (async () => {
      do {
        this.#again = false;
        this.workspace = await api.workspace();
        for (const { name, threshold } of this.workspace.classes) {
          if (this.cuts.get(name) === threshold) this.cuts.delete(name);
        }
        this.#tell("workspace");
      } while (this.#again);
    })().finally(() => {
      this.#fetching = null;
    });
    return this.#fetching;
  }

  photo(id) {
    return this.workspace?.photos.find((photo) => photo.id === id);
  }

  color(name) {
    return this.workspace?.classes.find((item) => item.name === name)?.color ?? "#888888";
  }

  /** The threshold in force for a class: the slider's, else the one that the answer was made with. */
  cut(name, made) {
    return this.cuts.get(name) ?? made;
  }

  setCut(name, value) {
    this.cuts.set(name, value);
    this.#tell("cuts");
  }

  /** Is a photo's answer of the workspace as it is now? */
  isFresh(answer) {
    return Boolean(answer) && answer.state === this.workspace.state;
  }

  #connect(connected) {
    const changed = connected !== this.connected;
    this.connected = connected;
    if (connected) this.refresh().catch(() => {});
    if (changed) this.#tell("connection");
  }

  #hear(event) {
    if (!this.workspace) return;
    if (event.kind === "workspace") {
      this.refresh().catch(() => {});
    } else if (event.kind === "answer") {
      const photo = this.photo(event.id);
      // What is on its way may have been told before this answer was there, and would take it back.
      if (this.#fetching || !photo) this.refresh().catch(() => {});
      if (photo) {
        photo.answer = { ...event.answer, doubt: event.doubt };
        this.#tell("answer", photo);
      }
    } else if (event.kind === "progress") {
      this.workspace.progress = event;
      this.#tell("progress");
    } else {
      this.#tell(event.kind, event);
    }
  }

  #tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }

  on(kinds, react) {
    for (const kind of kinds.split(" ")) this.addEventListener(kind, (event) => react(event.detail));
  }
}

export const store = new Store();
