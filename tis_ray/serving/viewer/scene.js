// What was found in one picture, ready to be drawn, pointed at and listed.

import { pathOf, trace } from "./contours.js";
import { contains, spansOf } from "./rle.js";

// Outlines of three finenesses: from this many device pixels to one of the picture on, details of this many px count.
const LEVELS = [[1.2, 0], [0.3, 0.75], [0, 2.5]];

/** One instance of an answer. `box` is x, y, width, height in image px, `size` the square root of its area. */
export class Instance {
  constructor(found, index, colour) {
    this.index = index;
    this.categoryId = found.category_id;
    this.category = found.category;
    this.score = found.score;
    this.maskScore = found.mask_score ?? null;
    this.box = found.bbox;
    this.area = found.area;
    this.size = Math.sqrt(found.area);
    this.segmentation = found.segmentation;
    this.colour = colour;
    this.spans = found.segmentation ? spansOf(found.segmentation) : null;
    this.loops = null;
    this.paths = [];
  }

  get words() {
    return `${this.category}, score ${this.score.toFixed(2)}, ${sizeWords(this)}`;
  }

  /** Whether an outline for this many device pixels to one of the picture is at hand; it takes a while else. */
  isTraced(scale) {
    return this.spans === null || this.paths[levelOf(scale)] !== undefined;
  }

  /** Its outline as a path in image px, or null where it has no mask. */
  path(scale) {
    if (this.spans === null) return null;
    const level = levelOf(scale);
    this.loops ??= trace(this.spans);
    this.paths[level] ??= pathOf(this.loops, LEVELS[level][1]);
    return this.paths[level];
  }

  /** Forget its outlines, which are made again when they are needed. */
  release() {
    this.loops = null;
    this.paths = [];
  }

  /** Whether a point of the picture is on its mask, or in its box where it has none. */
  covers(x, y) {
    return this.spans ? contains(this.spans, Math.floor(x), Math.floor(y)) : this.isNear(x, y, 0);
  }

  /** Whether a point of the picture is in its box or at most `margin` px beside it. */
  isNear(x, y, margin) {
    const [left, top, width, height] = this.box;
    return x >= left - margin && x <= left + width + margin && y >= top - margin && y <= top + height + margin;
  }
}

function levelOf(scale) {
  return LEVELS.findIndex(([from]) => scale >= from);
}

/** Its size in words: the square root of its area, and its box. */
export function sizeWords({ size, box }) {
  return `${size < 10 ? size.toFixed(1) : Math.round(size)} px (${Math.round(box[2])} × ${Math.round(box[3])})`;
}

/** The instances of an answer, in its order: highest score first. */
export function instancesOf(answer, palette) {
  return answer.instances.map((found, i) => new Instance(found, i, palette.colour(found.category_id)));
}

/** What a pointer is on: the smallest mask there, else the smallest box at most `margin` px away, else null. */
export function pointedAt(instances, x, y, margin) {
  const smallest = (list) => list.reduce((best, one) => (best && best.area <= one.area ? best : one), null);
  const near = instances.filter((instance) => instance.isNear(x, y, margin));
  return smallest(near.filter((instance) => instance.covers(x, y))) ?? smallest(near);
}

/** A view's name as the service writes it elsewhere. */
export function viewName(view) {
  return `${view.member}@${view.scale}${view.crop_name ? `.${view.crop_name}` : ""}${view.flip ? " flipped" : ""}`;
}

/** Which views found an instance themselves: a box of its class that overlaps its own by at least half (IoU). */
export function seenBy(instance, views) {
  return views.filter((view) => view.detections?.some(
    (found) => found.category_id === instance.categoryId && overlap(found.bbox, instance.box) >= 0.5));
}

function overlap(a, b) {
  const width = Math.min(a[0] + a[2], b[0] + b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[1] + a[3], b[1] + b[3]) - Math.max(a[1], b[1]);
  if (width <= 0 || height <= 0) return 0;
  return (width * height) / (a[2] * a[3] + b[2] * b[3] - width * height);
}
