// The pictures on this page, asked for one after the other: waiting, running, again after a 503, done or failed.

import { Problem, segment } from "./service.js";

const MAX_TRIES = 5;

export class Picture {
  constructor(file, id) {
    Object.assign(this, { file, id, name: file.name || `pasted-${id}.png` });
    this.state = "waiting"; // waiting, running, pausing (until the service takes it), locked, done, failed, cancelled
    this.problem = "";
    this.answer = null;
    this.startedAt = 0;
    this.retryAt = 0;
    this.controller = null;
  }
}

export class Queue {
  /** `onChange(picture)` is called whenever one of them has changed. */
  constructor(onChange) {
    this.onChange = onChange;
    this.pictures = [];
    this.token = "";
    this.explain = true;
    this.maxBytes = Infinity;
    this.isRunning = false;
  }

  add(files) {
    const added = files.map((file, i) => new Picture(file, this.pictures.length + 1 + i));
    this.pictures.push(...added);
    added.forEach((picture) => this.onChange(picture));
    this.run();
    return added;
  }

  /** Ask for a picture (again). */
  again(picture) {
    this.set(picture, { state: "waiting", problem: "" });
    this.run();
  }

  cancel(picture) {
    if (!["waiting", "running", "pausing"].includes(picture.state)) return;
    picture.controller?.abort();
    this.set(picture, { state: "cancelled", problem: "Cancelled." });
  }

  /** Go on with a token; it is kept in this object alone and is gone with the page. */
  unlock(token) {
    this.token = token;
    for (const picture of this.pictures) if (picture.state === "locked") this.set(picture, { state: "waiting" });
    this.run();
  }

  async run() {
    if (this.isRunning) return;
    this.isRunning = true;
    for (let next; (next = this.next()); ) await this.ask(next);
    this.isRunning = false;
  }

  /** The first that waits; none while the door is locked, where each would be sent for nothing. */
  next() {
    if (this.pictures.some((picture) => picture.state === "locked")) return null;
    return this.pictures.find((picture) => picture.state === "waiting");
  }

  async ask(picture) {
    const { size } = picture.file;
    if (size > this.maxBytes) {
      const words = `${picture.name} has ${megabytes(size)}; this service takes at most ${megabytes(this.maxBytes)}.`;
      return this.set(picture, { state: "failed", problem: words });
    }
    const controller = new AbortController();
    const { signal } = controller;
    this.set(picture, { state: "running", startedAt: performance.now(), controller });
    for (let tries = 1; !signal.aborted; tries++) {
      try {
        const { token, explain } = this;
        const answer = await segment(picture.file, { token, explain, signal });
        if (!signal.aborted) this.set(picture, { state: "done", answer, problem: "" });
      } catch (error) {
        if (signal.aborted) break;
        if (error.status === 401) this.set(picture, { state: "locked", problem: error.message });
        else if (error.retryAfter && tries < MAX_TRIES) {
          await this.pause(picture, error);
          continue;
        } else this.set(picture, { state: "failed", problem: error instanceof Problem ? error.message : String(error) });
      }
      break;
    }
    return undefined;
  }

  async pause(picture, { message, retryAfter }) {
    const { signal } = picture.controller;
    this.set(picture, { state: "pausing", problem: message, retryAt: performance.now() + 1000 * retryAfter });
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, 1000 * retryAfter);
      signal.addEventListener("abort", () => {
        clearTimeout(timer);
        resolve();
      });
    });
    if (!signal.aborted) this.set(picture, { state: "running" });
  }

  set(picture, changes) {
    Object.assign(picture, changes);
    this.onChange(picture);
  }
}

function megabytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
