// A picture's pixels as they are stored. The service, as COCO's annotations, takes no notice of an orientation in EXIF;
// browsers turn the picture whatever they are told, so what says how is left out before they decode it.

const EXIF = [0x45, 0x78, 0x69, 0x66, 0, 0]; // "Exif" and two zeros, where a JPEG's segment begins with them
const PNG = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];

/** Decode a file; `options` are those of createImageBitmap. Rejects what the browser cannot show. */
export async function decode(file, options = {}) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const parts = startsWith(bytes, 0, PNG) ? ofPng(bytes) : startsWith(bytes, 0, [0xff, 0xd8]) ? ofJpeg(bytes) : [bytes];
  return createImageBitmap(new Blob(parts, { type: file.type }), options);
}

/** The parts of a JPEG without its EXIF segments. */
function ofJpeg(bytes) {
  const parts = [];
  let from = 0;
  let at = 2;
  while (at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda) {
    const end = at + 2 + (bytes[at + 2] << 8) + bytes[at + 3];
    if (bytes[at + 1] === 0xe1 && startsWith(bytes, at + 4, EXIF)) {
      parts.push(bytes.subarray(from, at));
      from = end;
    }
    at = end;
  }
  return [...parts, bytes.subarray(from)];
}

/** The parts of a PNG without its eXIf chunks. */
function ofPng(bytes) {
  const parts = [];
  const view = new DataView(bytes.buffer);
  let from = 0;
  let at = PNG.length;
  while (at + 12 <= bytes.length) {
    const end = at + 12 + view.getUint32(at);
    if (view.getUint32(at + 4) === 0x65584966) {
      parts.push(bytes.subarray(from, at));
      from = end;
    }
    at = end;
  }
  return [...parts, bytes.subarray(from)];
}

function startsWith(bytes, at, expected) {
  return expected.every((value, i) => bytes[at + i] === value);
}
