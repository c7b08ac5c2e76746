// What each view found by itself, how long it took, and where the rest of the time went.

import { seenBy, viewName } from "./scene.js";

const STAGES = { decode_s: "Decoding", views_s: "Views", masks_s: "Masks of the fused boxes", fusion_s: "Fusion", encode_s: "Writing" };

export class Views {
  /** `onShow(view or null)` is called when a view's own boxes are to be drawn, or none. */
  constructor({ table, stages, hint }, onShow) {
    Object.assign(this, { table, stages, hint, onShow, views: [], buttons: [], shown: null });
  }

  /** Another picture's `views` and `timings`; without an answer, none. */
  open({ views, timings } = { views: [], timings: null }) {
    this.views = views;
    this.shown = null;
    const explained = views.some((view) => view.detections);
    this.hint.textContent = explained
      ? "Choose a view to see the boxes it found by itself, before fusion, of the scores and classes that are shown."
      : "Tick “Ask for each view’s own boxes” and segment again to see them here.";
    const longest = Math.max(1e-9, ...views.map((view) => view.seconds));
    this.buttons = views.map((view) => this.button(view));
    this.table.replaceChildren(...views.map((view, i) => this.row(view, this.buttons[i], longest)));
    this.stages.replaceChildren(...(timings ? stageRows(timings) : []));
  }

  /** Mark the views that found an instance; their number in words, or "" where it is not known. */
  mark(instance) {
    const explained = this.views.filter((view) => view.detections);
    const seers = instance ? seenBy(instance, explained) : [];
    this.views.forEach((view, i) => this.table.rows[i].classList.toggle("seer", seers.includes(view)));
    return instance && explained.length ? `${seers.length} of ${explained.length} views found it` : "";
  }

  button(view) {
    const button = Object.assign(document.createElement("button"), { type: "button", className: "view", textContent: viewName(view) });
    button.ariaPressed = "false";
    button.disabled = !view.detections;
    button.addEventListener("click", () => this.show(this.shown === view ? null : view));
    return button;
  }

  show(view) {
    this.shown = view;
    this.views.forEach((one, i) => (this.buttons[i].ariaPressed = String(one === view)));
    this.onShow(view);
  }

  row(view, button, longest) {
    const row = document.createElement("tr");
    const head = document.createElement("th");
    head.scope = "row";
    head.append(button);
    const where = view.crop ? `crop ${view.crop.join(", ")}` : view.tile ? `tiles of ${view.tile.width} × ${view.tile.height}` : "";
    if (where) head.append(Object.assign(document.createElement("small"), { textContent: where }));
    row.append(head);
    if (view.status === "ok") row.insertCell().textContent = view.instances;
    else row.insertCell().append(Object.assign(document.createElement("strong"), { className: "bad", textContent: view.status }));
    row.insertCell().append(...bar(view.seconds / longest, seconds(view.seconds)));
    return row;
  }
}

function stageRows(timings) {
  const rows = Object.entries(STAGES).map(([key, name]) => stageRow(name, timings[key] ?? 0, timings.total_s));
  const total = stageRow("Everything", timings.total_s, timings.total_s);
  total.className = "total";
  return [...rows, total];
}

function stageRow(name, spent, total) {
  const row = document.createElement("tr");
  const head = Object.assign(document.createElement("th"), { scope: "row", textContent: name });
  row.append(head);
  row.insertCell().append(...bar(total ? spent / total : 0, seconds(spent)));
  return row;
}

function bar(share, text) {
  const filled = document.createElement("i");
  filled.style.width = `${Math.min(100, 100 * share)}%`;
  const track = Object.assign(document.createElement("span"), { className: "bar" });
  track.append(filled);
  return [track, Object.assign(document.createElement("span"), { className: "number", textContent: text })];
}

function seconds(value) {
  if (value === 0) return "–";
  return value < 1 ? `${(1000 * value).toFixed(value < 0.01 ? 1 : 0)} ms` : `${value.toFixed(2)} s`;
}
