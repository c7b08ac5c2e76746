// The picture with what was found over it: canvas, camera, what the pointer is on, and the overview in the corner.

import { Camera } from "./camera.js";
import { paint } from "./drawing.js";
import { listen } from "./gestures.js";
import { pointedAt, sizeWords } from "./scene.js";

const REACH_PX = 6; // tiny objects can be pointed at from so far

export class Stage {
  /** `on` has select(instance or null) and key(name). */
  constructor({ canvas, overview, tip, zoom }, on) {
    Object.assign(this, { canvas, overview, tip, zoom, on });
    this.context = canvas.getContext("2d");
    this.what = {
      pyramid: null, instances: [], selected: null, hovered: null, view: null,
      masks: true, boxes: false, labels: false, opacity: 0.4,
    };
    this.camera = new Camera(() => this.draw());
    this.frame = 0;
    listen(canvas, this.camera, {
      click: (at) => on.select(this.at(at)),
      hover: (at) => this.hover(at),
      key: on.key,
    });
    overview.addEventListener("pointerdown", (event) => this.jump(event));
    overview.addEventListener("pointermove", (event) => event.buttons && this.jump(event));
    new ResizeObserver(() => this.resize()).observe(canvas);
  }

  /** Show a picture, or none. */
  open(pyramid) {
    this.what = { ...this.what, pyramid, instances: [], selected: null, hovered: null, view: null };
    this.overview.hidden = true;
    this.resize();
    if (!pyramid) return;
    this.camera.open([pyramid.width, pyramid.height]);
    const longest = Math.max(pyramid.width, pyramid.height);
    this.overview.width = Math.round((150 * pyramid.width) / longest);
    this.overview.height = Math.round((150 * pyramid.height) / longest);
  }

  /** Change what is shown: any of `instances`, `selected`, `view`, `masks`, `boxes`, `labels`, `opacity`. */
  show(changes) {
    Object.assign(this.what, changes);
    if (!this.what.instances.includes(this.what.hovered)) this.hover(null);
    this.draw();
  }

  resize() {
    const { clientWidth, clientHeight } = this.canvas;
    this.ratio = devicePixelRatio;
    this.canvas.width = Math.max(1, Math.round(clientWidth * this.ratio));
    this.canvas.height = Math.max(1, Math.round(clientHeight * this.ratio));
    this.camera.resize([Math.max(clientWidth, 1), Math.max(clientHeight, 1)]);
    this.paint(performance.now()); // at once: a canvas of a new size is empty
  }

  /** Ask for a frame. */
  draw() {
    this.frame ||= requestAnimationFrame((time) => {
      this.frame = 0;
      if (this.ratio === devicePixelRatio) this.paint(time);
      else this.resize();
    });
  }

  paint(time) {
    if (!this.what.pyramid) return;
    const moves = this.camera.step(time);
    const waits = paint(this.what, { context: this.context, ratio: this.ratio, ...this.camera.now, seen: this.camera.seen });
    this.paintOverview();
    this.zoom.value = `${Math.round(100 * this.camera.now.scale)} %`;
    if (moves || waits) this.draw();
  }

  paintOverview() {
    this.overview.hidden = this.camera.now.scale < 1.05 * this.camera.fitScale;
    if (this.overview.hidden) return;
    const { pyramid, selected } = this.what;
    const context = this.overview.getContext("2d");
    const scale = this.overview.width / pyramid.width;
    context.setTransform(scale, 0, 0, scale, 0, 0);
    pyramid.draw(context, scale);
    const [x0, y0, x1, y1] = this.camera.seen;
    context.fillStyle = "#10151b99";
    context.beginPath();
    context.rect(0, 0, pyramid.width, pyramid.height);
    context.rect(x0, y0, x1 - x0, y1 - y0);
    context.fill("evenodd");
    context.lineWidth = 1.5 / scale;
    context.strokeStyle = "#ffffff";
    context.strokeRect(x0, y0, x1 - x0, y1 - y0);
    if (!selected) return;
    context.fillStyle = selected.colour;
    context.fillRect(selected.box[0] + selected.box[2] / 2 - 2 / scale, selected.box[1] + selected.box[3] / 2 - 2 / scale,
      4 / scale, 4 / scale);
  }

  jump(event) {
    const bounds = this.overview.getBoundingClientRect();
    const scale = this.what.pyramid.width / bounds.width;
    this.camera.centre((event.clientX - bounds.left) * scale, (event.clientY - bounds.top) * scale, undefined, { glides: false });
  }

  at(place) {
    const [x, y] = this.camera.toImage(place);
    return pointedAt(this.what.instances, x, y, REACH_PX / this.camera.now.scale);
  }

  hover(place) {
    const found = place && this.what.pyramid ? this.at(place) : null;
    this.tip.hidden = !found;
    if (found) {
      this.tip.replaceChildren(Object.assign(document.createElement("strong"), { textContent: found.category }),
        ` ${found.score.toFixed(2)} · ${sizeWords(found)}`);
      const left = Math.min(place[0] + 14, this.canvas.clientWidth - this.tip.offsetWidth - 4);
      const top = place[1] + 18 + this.tip.offsetHeight > this.canvas.clientHeight ? place[1] - 12 - this.tip.offsetHeight : place[1] + 18;
      this.tip.style.transform = `translate(${Math.max(left, 4)}px, ${top}px)`;
    }
    this.canvas.classList.toggle("pointing", Boolean(found));
    if (found === this.what.hovered) return;
    this.what.hovered = found;
    this.draw();
  }
}
