// Colours of classes, after palettes made for every colour vision; names stand beside them all the same.

// Okabe and Ito 2008 without black, its dark tones lightened for thin lines on photographs, then some of Tol's light ones.
const COLOURS = [
  "#56b4e9", "#e69f00", "#2fc39a", "#f0e442", "#d98cb3", "#ff7f3f", "#8aa8ff",
  "#bbcc33", "#ee8866", "#99ddff", "#ffaabb", "#44bb99", "#eedd88", "#c9a0ff",
];

/** Colours by category id, the same as long as the table of categories is. */
export class Palette {
  constructor(categories = []) {
    this.index = new Map(categories.map((category, i) => [category.id, i]));
  }

  colour(categoryId) {
    if (!this.index.has(categoryId)) this.index.set(categoryId, this.index.size);
    return COLOURS[this.index.get(categoryId) % COLOURS.length];
  }
}

/** The letter colour that can be read on any of them. */
export const INK = "#10151b";
