// Which instances are shown: by score, by size, by class. The choice stays when the picture changes.

export class Filters {
  /** `parts` are the inputs of the page; `onChange()` is called when another choice is made. */
  constructor(parts, onChange) {
    Object.assign(this, { parts, onChange, hidden: new Set(), instances: [], boxes: new Map() });
    for (const input of [parts.score, parts.from, parts.to]) input.addEventListener("input", () => this.changed());
    parts.all.addEventListener("click", () => this.hide(new Set()));
    parts.none.addEventListener("click", () => this.hide(new Set(this.instances.map(({ categoryId }) => categoryId))));
  }

  /** Those of the picture's instances that are to be shown, in their order. */
  get shown() {
    return this.instances.filter((instance) => this.accepts(instance));
  }

  accepts(instance) {
    return this.measures(instance) && !this.hidden.has(instance.categoryId);
  }

  /** A view's own box has no mask, hence no area to judge: of those, score and class decide. */
  acceptsBox({ score, category_id: categoryId }) {
    return score >= Number(this.parts.score.value) && !this.hidden.has(categoryId);
  }

  measures({ score, size }) {
    const { parts } = this;
    return score >= Number(parts.score.value) && size >= Number(parts.from.value || 0)
      && size <= (parts.to.value === "" ? Infinity : Number(parts.to.value));
  }

  /** Another picture: its classes are listed, the most frequent first. */
  open(instances) {
    this.instances = instances;
    const classes = new Map();
    for (const instance of instances) classes.set(instance.categoryId, [...(classes.get(instance.categoryId) ?? []), instance]);
    const sorted = [...classes.values()].sort((a, b) => b.length - a.length || a[0].category.localeCompare(b[0].category));
    this.boxes = new Map(sorted.map((members) => [members[0].categoryId, this.classBox(members[0])]));
    this.parts.classes.replaceChildren(...[...this.boxes.values()].map(({ label }) => label));
    this.count();
    this.histogram();
  }

  hide(hidden) {
    this.hidden = hidden;
    for (const [id, { input }] of this.boxes) input.checked = !hidden.has(id);
    this.changed();
  }

  changed() {
    this.count();
    this.onChange();
  }

  count() {
    this.parts.scoreShown.value = Number(this.parts.score.value).toFixed(2);
    const counts = new Map();
    for (const { categoryId } of this.instances.filter((one) => this.measures(one))) counts.set(categoryId, (counts.get(categoryId) ?? 0) + 1);
    for (const [id, { number }] of this.boxes) number.textContent = counts.get(id) ?? 0;
  }

  /** How many instances have which score, as bars above the slider. */
  histogram() {
    const bins = new Array(40).fill(0);
    for (const { score } of this.instances) bins[Math.min(Math.floor(40 * score), 39)]++;
    const highest = Math.max(1, ...bins);
    this.parts.histogram.replaceChildren(...bins.map((count) => {
      const bar = document.createElement("i");
      bar.style.height = count ? `${8 + 92 * Math.sqrt(count / highest)}%` : "0";
      return bar;
    }));
  }

  classBox({ categoryId, category, colour }) {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), { type: "checkbox", checked: !this.hidden.has(categoryId) });
    const swatch = Object.assign(document.createElement("span"), { className: "swatch" });
    const name = Object.assign(document.createElement("span"), { className: "name", textContent: category });
    const number = Object.assign(document.createElement("span"), { className: "number" });
    swatch.style.background = colour;
    label.append(input, swatch, name, number);
    input.addEventListener("change", () => {
      if (input.checked) this.hidden.delete(categoryId);
      else this.hidden.add(categoryId);
      this.changed();
    });
    return { label, input, number };
  }
}
