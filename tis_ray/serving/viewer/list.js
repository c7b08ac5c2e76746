// The list of instances: a listbox of which only the rows in sight exist, so that thousands scroll as ten do.

import { sizeWords } from "./scene.js";

const ROW_PX = 34;
const ORDERS = {
  score: (a, b) => b.score - a.score || a.index - b.index,
  small: (a, b) => a.size - b.size || a.index - b.index,
  large: (a, b) => b.size - a.size || a.index - b.index,
  class: (a, b) => a.category.localeCompare(b.category) || b.score - a.score,
};

export class InstanceList {
  /** `onSelect(instance)` is called for a row that is clicked or reached by the keys. */
  constructor({ list, order }, onSelect) {
    Object.assign(this, { list, order, onSelect, rows: [], selected: null });
    this.filler = list.appendChild(document.createElement("div"));
    list.addEventListener("scroll", () => this.render(), { passive: true });
    list.addEventListener("click", (event) => {
      const row = event.target.closest("[role=option]");
      if (row) onSelect(this.rows[Number(row.dataset.at)]);
    });
    list.addEventListener("keydown", (event) => this.key(event));
    order.addEventListener("change", () => this.show(this.rows));
    new ResizeObserver(() => this.render()).observe(list);
  }

  show(instances) {
    this.rows = [...instances].sort(ORDERS[this.order.value]);
    this.filler.style.height = `${ROW_PX * this.rows.length}px`;
    this.render();
  }

  /** Mark an instance, or none, and scroll to it. */
  select(instance) {
    this.selected = instance;
    const at = this.rows.indexOf(instance);
    if (at >= 0) {
      const { scrollTop, clientHeight } = this.list;
      if (ROW_PX * at < scrollTop) this.list.scrollTop = ROW_PX * at;
      else if (ROW_PX * (at + 1) > scrollTop + clientHeight) this.list.scrollTop = ROW_PX * (at + 1) - clientHeight;
    }
    this.render();
  }

  /** The instance so many rows further; from the edges where none is selected. */
  step(by) {
    const at = this.rows.indexOf(this.selected);
    if (!this.rows.length) return null;
    if (at < 0 && by === -1) return this.rows.at(-1);
    return this.rows[Math.min(Math.max(at + by, 0), this.rows.length - 1)];
  }

  key(event) {
    const page = Math.max(1, Math.floor(this.list.clientHeight / ROW_PX) - 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity, n: 1, p: -1 };
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (!(event.key in steps) && event.key !== "Enter") return;
    event.preventDefault();
    const to = event.key === "Enter" ? this.selected : this.step(steps[event.key]);
    if (to) this.onSelect(to);
  }

  render() {
    const first = Math.max(0, Math.floor(this.list.scrollTop / ROW_PX) - 2);
    const last = Math.min(this.rows.length, Math.ceil((this.list.scrollTop + this.list.clientHeight) / ROW_PX) + 2);
    this.filler.replaceChildren(...this.rows.slice(first, last).map((instance, i) => this.row(instance, first + i)));
    const marked = this.rows.indexOf(this.selected);
    if (marked >= first && marked < last) this.list.setAttribute("aria-activedescendant", `row-${marked}`);
    else this.list.removeAttribute("aria-activedescendant");
  }

  row(instance, at) {
    const row = document.createElement("div");
    row.className = "row";
    row.id = `row-${at}`;
    row.dataset.at = at;
    row.role = "option";
    row.ariaSelected = String(instance === this.selected);
    row.ariaPosInSet = at + 1;
    row.ariaSetSize = this.rows.length;
    row.style.transform = `translateY(${ROW_PX * at}px)`;
    const swatch = span("swatch", "");
    swatch.style.background = instance.colour;
    row.append(swatch, span("name", instance.category), span("number", instance.score.toFixed(3)),
      span("number size", sizeWords(instance)));
    return row;
  }
}

function span(className, textContent) {
  return Object.assign(document.createElement("span"), { className, textContent });
}
