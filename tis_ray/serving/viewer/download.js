// What is shown, as files: a COCO data set of all pictures, and one picture with its instances drawn over it.

import { paint } from "./drawing.js";

/**
 * COCO's data set with scores: pycocotools reads it as a data set, and its `annotations` alone as results.
 * `pictures` are `{name, answer, instances}`; image ids count from 1 in their order.
 */
export function cocoOf(pictures, categories) {
  const annotations = pictures.flatMap(({ instances }, i) => instances.map((instance) => annotationOf(instance, i + 1)));
  return {
    info: {
      description: "Instances found by tis-ray, as shown on its page",
      model_versions: [...new Set(pictures.map(({ answer }) => answer.model_version))],
    },
    images: pictures.map(({ name, answer }, i) => ({
      id: i + 1, file_name: name, width: answer.image.width, height: answer.image.height,
    })),
    categories,
    annotations: annotations.map((annotation, i) => ({ id: i + 1, ...annotation })),
  };
}

function annotationOf(instance, imageId) {
  return {
    image_id: imageId,
    category_id: instance.categoryId,
    bbox: instance.box,
    area: instance.area,
    iscrowd: 0,
    score: instance.score,
    ...(instance.maskScore === null ? {} : { mask_score: instance.maskScore }),
    ...(instance.segmentation ? { segmentation: instance.segmentation } : {}),
  };
}

/** The picture in its own size with what is shown over it, as a PNG. */
export async function pngOf(what) {
  const { width, height } = what.pyramid;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  const to = { context, ratio: 1, scale: 1, x: 0, y: 0, seen: [0, 0, width, height] };
  while (paint({ ...what, hovered: null }, to));
  return context.canvas.convertToBlob({ type: "image/png" });
}

/** Hand a blob to the browser as a file. */
export function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
