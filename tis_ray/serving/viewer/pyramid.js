// A picture in halving sizes: what is shown small is drawn from a small one, which is smoother and faster.

import { decode } from "./stored.js";

export class Pyramid {
  constructor(levels) {
    this.levels = levels;
    [this.width, this.height] = [levels[0].width, levels[0].height];
  }

  /** From a file, its pixels as they are stored. Rejects what the browser cannot show. */
  static async open(file) {
    const levels = [await decode(file)];
    while (Math.max(levels.at(-1).width, levels.at(-1).height) > 512) {
      const last = levels.at(-1);
      const [resizeWidth, resizeHeight] = [Math.ceil(last.width / 2), Math.ceil(last.height / 2)];
      levels.push(await createImageBitmap(last, { resizeWidth, resizeHeight, resizeQuality: "medium" }));
    }
    return new Pyramid(levels);
  }

  /** Instead of a picture that the browser cannot show. */
  static blank(width, height) {
    const canvas = new OffscreenCanvas(Math.min(width, 64), Math.min(height, 64));
    const context = canvas.getContext("2d");
    context.fillStyle = "#7f858c";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const pyramid = new Pyramid([canvas.transferToImageBitmap()]);
    return Object.assign(pyramid, { width, height });
  }

  /** Draw all of it as width x height from (0, 0), for `scale` device pixels to one of its own. */
  draw(context, scale) {
    const level = Math.max(0, Math.min(Math.floor(-Math.log2(scale)), this.levels.length - 1));
    context.imageSmoothingEnabled = scale < 2; // single pixels are to be seen as such
    context.drawImage(this.levels[level], 0, 0, this.width, this.height);
  }

  close() {
    for (const level of this.levels) level.close();
  }
}
