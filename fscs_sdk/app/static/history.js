// Undo and redo without end. A step is what changed, and changing it again takes it back.

export class History {
  #done = [];
  #undone = [];

  push(step) {
    this.#done.push(step);
    this.#undone = [];
  }

  /** The step to take back, or undefined. */
  undo() {
    const step = this.#done.pop();
    if (step !== undefined) this.#undone.push(step);
    return step;
  }

  /** The step to do again, or undefined. */
  redo() {
    const step = this.#undone.pop();
    if (step !== undefined) this.#done.push(step);
    return step;
  }

  get canUndo() {
    return this.#done.length > 0;
  }

  get canRedo() {
    return this.#undone.length > 0;
  }
}
