// Which part of the picture is on the screen: screen px = scale * image px + (x, y), with a short glide to a new place.

const MAX_SCALE = 64; // screen px for one of the picture
const MARGIN = 80; // so much of the picture, in screen px, never leaves the screen
const GLIDE_MS = 180;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Camera {
  /** `onMove` is called whenever a new frame is due. */
  constructor(onMove) {
    this.onMove = onMove;
    this.image = [1, 1];
    this.screen = [1, 1];
    this.now = { scale: 1, x: 0, y: 0 };
    this.target = this.now;
    this.glide = null;
  }

  /** Scale at which the whole picture is just seen. */
  get fitScale() {
    return Math.min(this.screen[0] / this.image[0], this.screen[1] / this.image[1], MAX_SCALE);
  }

  get isFit() {
    return Math.abs(this.target.scale / this.fitScale - 1) < 1e-3;
  }

  /** A new picture: all of it is shown. */
  open(image) {
    this.image = image;
    this.fit({ glides: false });
  }

  resize(screen) {
    const wasFit = this.isFit;
    const [dx, dy] = [(screen[0] - this.screen[0]) / 2, (screen[1] - this.screen[1]) / 2];
    this.screen = screen;
    if (wasFit) this.fit({ glides: false });
    else this.go({ ...this.target, x: this.target.x + dx, y: this.target.y + dy }, { glides: false });
  }

  fit({ glides = true } = {}) {
    const scale = this.fitScale;
    const x = (this.screen[0] - scale * this.image[0]) / 2;
    this.go({ scale, x, y: (this.screen[1] - scale * this.image[1]) / 2 }, { glides });
  }

  /** Change the scale by a factor and keep what is at a place on the screen there. */
  zoom(factor, at = [this.screen[0] / 2, this.screen[1] / 2], { glides = true } = {}) {
    const from = this.target;
    const lowest = Math.min(this.fitScale / 2, 1);
    const scale = Math.min(Math.max(from.scale * factor, lowest), MAX_SCALE);
    const grown = scale / from.scale;
    this.go({ scale, x: at[0] - (at[0] - from.x) * grown, y: at[1] - (at[1] - from.y) * grown }, { glides });
  }

  pan(dx, dy, { glides = false } = {}) {
    this.go({ ...this.target, x: this.target.x + dx, y: this.target.y + dy }, { glides });
  }

  /** Bring a box of the picture to the middle, so large that it and what is around it can be judged. */
  show([left, top, width, height]) {
    const wanted = Math.min(this.screen[0], this.screen[1]) / (3 * Math.max(width, height, 4));
    const scale = Math.min(Math.max(wanted, this.fitScale), MAX_SCALE / 2);
    this.centre(left + width / 2, top + height / 2, scale);
  }

  centre(imageX, imageY, scale = this.target.scale, { glides = true } = {}) {
    this.go({ scale, x: this.screen[0] / 2 - scale * imageX, y: this.screen[1] / 2 - scale * imageY }, { glides });
  }

  go(target, { glides = true } = {}) {
    this.target = this.kept(target);
    if (glides && !still.matches) this.glide = { from: this.now, start: performance.now() };
    else {
      this.now = this.target;
      this.glide = null;
    }
    this.onMove();
  }

  kept({ scale, x, y }) {
    const keep = (offset, i) => {
      const margin = Math.min(MARGIN, scale * this.image[i]);
      return Math.min(Math.max(offset, margin - scale * this.image[i]), this.screen[i] - margin);
    };
    return { scale, x: keep(x, 0), y: keep(y, 1) };
  }

  /** Go on to this moment; whether it still moves. */
  step(time) {
    if (!this.glide) return false;
    const { from, start } = this.glide;
    const t = Math.min(Math.max((time - start) / GLIDE_MS, 0), 1);
    const eased = 1 - (1 - t) ** 3;
    const { scale, x, y } = this.target;
    const at = from.scale * (scale / from.scale) ** eased;
    // Offsets that are linear in the scale keep the place one zooms to where it is.
    const share = Math.abs(scale / from.scale - 1) < 1e-6 ? eased : (at - from.scale) / (scale - from.scale);
    this.now = { scale: at, x: from.x + (x - from.x) * share, y: from.y + (y - from.y) * share };
    if (t < 1) return true;
    this.now = this.target;
    this.glide = null;
    return false;
  }

  /** The place in the picture that is at a place on the screen. */
  toImage([x, y]) {
    return [(x - this.now.x) / this.now.scale, (y - this.now.y) / this.now.scale];
  }

  toScreen([x, y]) {
    return [this.now.scale * x + this.now.x, this.now.scale * y + this.now.y];
  }

  /** What is seen: left, top, right, bottom in image px. */
  get seen() {
    return [...this.toImage([0, 0]), ...this.toImage(this.screen)];
  }
}
