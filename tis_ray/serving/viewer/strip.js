// The row of pictures on this page: a button each, with a small copy of it and how far it is.

import { decode } from "./stored.js";

const WORDS = {
  waiting: "waiting", running: "segmenting", pausing: "trying again soon", locked: "needs a token",
  done: "done", failed: "failed", cancelled: "cancelled",
};

export class Strip {
  constructor(list, onOpen) {
    Object.assign(this, { list, onOpen, items: new Map(), drawn: Promise.resolve() });
  }

  /** Show the state of a picture, a new one too. */
  update(picture, count = null) {
    if (!this.items.has(picture)) this.add(picture);
    const { button, state } = this.items.get(picture);
    button.dataset.state = picture.state;
    state.textContent = count === null ? WORDS[picture.state] : `${count} found`;
    button.ariaLabel = `${picture.name}, ${state.textContent}`;
    this.list.hidden = this.items.size < 2;
  }

  choose(picture) {
    for (const [one, { button }] of this.items) {
      if (one === picture) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    this.items.get(picture)?.button.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  add(picture) {
    const button = Object.assign(document.createElement("button"), { type: "button", title: picture.name });
    const canvas = Object.assign(document.createElement("canvas"), { width: 96, height: 64 });
    const name = Object.assign(document.createElement("span"), { className: "name", textContent: picture.name });
    const state = Object.assign(document.createElement("span"), { className: "state" });
    button.append(canvas, name, state);
    button.addEventListener("click", () => this.onOpen(picture));
    const item = document.createElement("li");
    item.append(button);
    this.list.append(item);
    this.items.set(picture, { button, state });
    this.drawn = this.drawn.then(() => thumbnail(picture.file, canvas)); // one at a time: each needs the whole picture in memory
  }
}

async function thumbnail(file, canvas) {
  try {
    const bitmap = await decode(file, { resizeHeight: 2 * canvas.height, resizeQuality: "medium" });
    const scale = Math.max(canvas.width / bitmap.width, canvas.height / bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    canvas.getContext("2d").drawImage(bitmap, (canvas.width - width) / 2, (canvas.height - height) / 2, width, height);
    bitmap.close();
  } catch {
    canvas.classList.add("unknown"); // a type this browser cannot show; the service may know it
  }
}
