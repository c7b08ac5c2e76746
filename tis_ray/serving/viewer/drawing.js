// One frame: the picture, the masks, boxes and names of its instances, and the boxes of one view.

import { INK } from "./palette.js";

const LINE = 1.5; // CSS px, whatever the zoom
const DOT = 5; // what is smaller than this on the screen is drawn as a dot, so that it can be found
const TRACING_MS = 10; // per frame; outlines not traced by then come with the next frame
const FONT = "600 12px system-ui, sans-serif";

/**
 * Paint a frame and say whether another one is needed.
 *
 * what: { pyramid, instances (highest score first), selected, hovered, view (or null), masks, boxes, labels, opacity }
 * to:   { context, ratio (device px to a CSS px), scale, x, y (see camera.js), seen (image px) }
 */
export function paint(what, to) {
  const { context, ratio, scale, x, y } = to;
  const device = scale * ratio;
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, context.canvas.width, context.canvas.height);
  context.setTransform(device, 0, 0, device, x * ratio, y * ratio);
  what.pyramid.draw(context, device);
  context.lineJoin = "round";
  const visible = what.instances.filter((instance) => isSeen(instance.box, to.seen)).reverse();
  const waiting = paintInstances(visible, what, context, scale, device);
  for (const instance of [what.hovered, what.selected]) if (instance) emphasise(instance, what, context, scale, device);
  if (what.view) paintView(what.view, context, scale, to.seen);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  if (what.labels) paintLabels(visible.reverse(), what.selected, context, to);
  return waiting;
}

function isSeen([left, top, width, height], [x0, y0, x1, y1]) {
  return left <= x1 && left + width >= x0 && top <= y1 && top + height >= y0;
}

function paintInstances(visible, what, context, scale, device) {
  const until = performance.now() + TRACING_MS;
  let waiting = false;
  context.lineWidth = LINE / scale;
  for (const instance of visible) {
    const [left, top, width, height] = instance.box;
    context.fillStyle = context.strokeStyle = instance.colour;
    if (scale * Math.max(width, height) < DOT && (what.masks || what.boxes)) {
      const side = DOT / scale;
      context.fillRect(left + (width - side) / 2, top + (height - side) / 2, side, side);
      continue;
    }
    let boxed = what.boxes || (what.masks && !instance.spans);
    if (what.masks && instance.spans) {
      if (instance.isTraced(device) || performance.now() < until) paintMask(instance, what.opacity, context, device);
      else boxed = waiting = true;
    }
    if (boxed) context.strokeRect(left, top, width, height);
  }
  return waiting;
}

function paintMask(instance, opacity, context, device) {
  const path = instance.path(device);
  context.globalAlpha = opacity;
  context.fill(path);
  context.globalAlpha = 1;
  context.stroke(path);
}

/** The selected instance, and the one under the pointer: a light line on a dark one, brackets around what is tiny. */
function emphasise(instance, { masks, selected }, context, scale, device) {
  const strong = instance === selected;
  const path = masks ? instance.path(device) : null;
  const [left, top, width, height] = instance.box;
  for (const [colour, line] of [[INK, strong ? 5 : 4], [strong ? "#ffffff" : instance.colour, strong ? 2.5 : 2]]) {
    context.strokeStyle = colour;
    context.lineWidth = line / scale;
    if (path) context.stroke(path);
    else context.strokeRect(left, top, width, height);
    if (strong) brackets(context, left, top, width, height, 6 / scale, 10 / scale);
  }
}

function brackets(context, left, top, width, height, gap, arm) {
  const [x0, y0, x1, y1] = [left - gap, top - gap, left + width + gap, top + height + gap];
  context.beginPath();
  for (const [x, y, dx, dy] of [[x0, y0, 1, 1], [x1, y0, -1, 1], [x1, y1, -1, -1], [x0, y1, 1, -1]]) {
    context.moveTo(x + dx * arm, y);
    context.lineTo(x, y);
    context.lineTo(x, y + dy * arm);
  }
  context.stroke();
}

function paintView(view, context, scale, seen) {
  const boxes = (view.detections ?? []).map((found) => found.bbox).filter((box) => isSeen(box, seen));
  if (view.crop) boxes.push([view.crop[0], view.crop[1], view.crop[2] - view.crop[0], view.crop[3] - view.crop[1]]);
  context.beginPath();
  for (const box of boxes) context.rect(...box);
  context.lineWidth = 1.25 / scale;
  context.strokeStyle = INK;
  context.stroke();
  context.setLineDash([4 / scale, 3 / scale]);
  context.strokeStyle = "#ffffff";
  context.stroke();
  context.setLineDash([]);
}

/** Names over the boxes, highest score first; one that would cover another is left out. */
function paintLabels(instances, selected, context, { scale, x, y }) {
  const height = 18;
  const taken = [];
  context.font = FONT;
  context.textBaseline = "middle";
  const first = selected && instances.includes(selected) ? [selected] : [];
  for (const instance of [...first, ...instances.filter((one) => one !== selected)]) {
    if (scale * Math.max(instance.box[2], instance.box[3]) < 8 && instance !== selected) continue;
    const text = `${instance.category} ${instance.score.toFixed(2)}`;
    const width = context.measureText(text).width + 8;
    const left = Math.max(x + scale * instance.box[0], 0);
    const top = Math.max(y + scale * instance.box[1] - height - (instance === selected ? 10 : 2), 0);
    const crowded = taken.some(([x0, y0, x1]) => left < x1 && left + width > x0 && Math.abs(top - y0) < height);
    if (crowded) continue;
    taken.push([left, top, left + width]);
    context.fillStyle = instance.colour;
    context.beginPath();
    context.roundRect(left, top, width, height, 4);
    context.fill();
    context.fillStyle = INK;
    context.fillText(text, left + 4, top + height / 2 + 0.5);
  }
}
